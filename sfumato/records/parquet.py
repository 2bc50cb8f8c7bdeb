"""Parquet tables with images inside, as `datasets` writes them.

A struct of bytes and path, or plain bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any

from ..errors import DataError
from .decode import BadImage
from .folder import SPLITS, read_below


class ParquetImages:
    """Reads slot -> encoded bytes from parquet files, one row group in memory at a time."""

    def __init__(self, files: list[Path], column: str):
        self.files, self.column = files, column
        self.starts, self.groups, self.n = [], [], 0
        for number, file in enumerate(files):
            meta = _open(file).metadata
            for group in range(meta.num_row_groups):
                self.starts.append(self.n)
                self.groups.append((number, group))
                self.n += meta.row_group(group).num_rows
        self._held: tuple[int | None, Any] = (None, None)

    def __call__(self, slot: int) -> bytes:
        """The encoded file of a slot."""
        at = bisect_right(self.starts, slot) - 1
        if self._held[0] != at:
            number, group = self.groups[at]
            self._held = (at, _read_group(self.files[number], group, self.column))
        cell = self._held[1][slot - self.starts[at]].as_py()
        if isinstance(cell, dict):
            if cell.get("bytes") is None and cell.get("path"):
                return read_below(self.files[self.groups[at][0]].parent, cell["path"])
            cell = cell.get("bytes")
        if not isinstance(cell, bytes):
            raise BadImage("missing file")
        return cell


def _read_group(file: Path, group: int, column: str):
    """One row group's images.

    BadImage for each of its slots if the file is damaged, or changed since it was listed.
    """
    import pyarrow as pa

    try:
        return _open(file).read_row_group(group, columns=[column], use_threads=False).column(0)
    except MemoryError:  # Arrow's own is one of its other errors, too
        raise
    except (pa.ArrowException, OSError, DataError, IndexError, KeyError):
        raise BadImage("truncated or damaged") from None


def read_through(files: list[Path]) -> None:
    """Reads all that will be read of these files once, a row group at a time.

    For the process that may die of it.
    """
    image, rows, _, _ = read_columns(files)
    read = ParquetImages(files, image)
    for start in read.starts if rows else ():
        try:
            read(start)
        except BadImage:
            continue


def find_parquet(path: Path, split: str) -> list[Path]:
    """Parquet files at `path` (a file, a folder, or its data/).

    Only `split` if names begin with splits.
    """
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    split_of = {file: file.stem.split("-")[0].split(".")[0].lower() for file in files}
    if files and any(name in SPLITS for name in split_of.values()):
        wanted = [file for file in files if split_of[file] == split]
        if not wanted:
            raise DataError(f"no parquet file of the split {split!r}: name one file as the path")
        return wanted
    return files


def read_columns(
    files: list[Path],
) -> tuple[str, list[dict[str, Any]], tuple[str, ...], dict[str, list[str]]]:
    """The image column, rows of all other flat columns, their names, and class names.

    Class names by ClassLabel column. Raises DataError for files that cannot be read, differ in
    columns, or hold no image column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = _open(files[0]).schema_arrow
    image = _image_column(first)
    flat = [
        f.name
        for f in first
        if f.name != image
        and not pa.types.is_nested(f.type)
        and not pa.types.is_binary(f.type)
        and not pa.types.is_large_binary(f.type)
    ]
    try:
        none: Any = None  # which pyarrow takes, but does not say so
        rows = [
            row
            for file in files
            for row in pq.read_table(file, columns=flat, partitioning=none).to_pylist()
        ]
    except (pa.ArrowException, OSError, KeyError):
        raise DataError(
            "the parquet files cannot be read together: give files with the same columns"
        ) from None
    if not flat:  # a table of no columns has no rows to list
        rows = [{} for file in files for _ in range(_open(file).metadata.num_rows)]
    names = {
        key: value["names"]
        for key, value in _features(first).items()
        if isinstance(value, dict) and "names" in value
    }
    return image, rows, tuple(flat), names


def _open(file: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, memory_map=True)
    except (pa.ArrowException, OSError):
        raise DataError(f"{file.name} is not a readable parquet file: write it again") from None


def _features(schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (KeyError, ValueError, TypeError):
        return {}


def _image_column(schema) -> str:
    import pyarrow as pa

    def holds_bytes(kind) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    able = [f.name for f in schema if holds_bytes(f.type)]
    declared = [
        k
        for k, v in _features(schema).items()
        if isinstance(v, dict) and v.get("_type") == "Image" and k in able
    ]
    for name in [*declared, "image", "img", "images"]:
        if name in able:
            return name
    if len(able) != 1:
        raise DataError(
            "the parquet file has no unambiguous image column: name it `image`, as bytes or a"
            " struct of bytes and path"
        )
    return able[0]
