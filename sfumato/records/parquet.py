"""Parquet tables with images inside, as `datasets` writes them.

A struct of bytes and path, or plain bytes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import DataError
from .decode import LFS, BadImage
from .folder import read_below
from .spelling import column_form
from .tables import cell_text

MOST_KNOWN = 100_000  # different texts that are kept apart from the columns


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
    image, *_ = read_columns(files)
    read = ParquetImages(files, image)
    for start in read.starts:
        try:
            read(start)
        except BadImage:
            continue


def read_columns(
    files: list[Path], asked: Collection[str] | None = None
) -> tuple[
    str, dict[str, list[str | None]], tuple[str, ...], dict[str, list[str]], tuple[str, ...]
]:
    """The image column, values of flat columns as texts, names of these, class names, lists.

    Values of the columns `asked` for only, as `column_form` spells them; None for all. Class names
    by ClassLabel column. The last are columns of lists. Raises DataError for files that cannot be
    read, differ in columns, or hold no image column.
    """
    import pyarrow as pa

    first = _open(files[0]).schema_arrow
    image = image_column(first)
    flat = flat_columns(first)
    needed = [name for name in flat if asked is None or column_form(name) in asked]
    columns: dict[str, list[str | None]] = {name: [] for name in needed}
    known: dict[str, str] = {}  # a label stands once in memory, however many rows have it
    try:
        for file in files:
            opened = _open(file)
            if opened.schema_arrow.names != first.names:
                raise KeyError
            for group in range(opened.num_row_groups if columns else 0):
                rows = opened.read_row_group(group, columns=list(columns), use_threads=False)
                for name, held in columns.items():
                    texts = map(cell_text, rows.column(name).to_pylist())
                    held += [None if t is None else known.setdefault(t, t) for t in texts]
                if len(known) > MOST_KNOWN:
                    known.clear()
    except (pa.ArrowException, OSError, KeyError):
        raise DataError(
            "the parquet files cannot be read together: give files with the same columns"
        ) from None
    return image, columns, tuple(flat), class_names(first), tuple(several_columns(first))


def flat_columns(schema) -> list[str]:
    """Names of the columns that hold one text or number a row, without pictures."""
    import pyarrow as pa

    image = image_column(schema)
    return [
        f.name
        for f in schema
        if f.name != image
        and not pa.types.is_nested(f.type)
        and not pa.types.is_binary(f.type)
        and not pa.types.is_large_binary(f.type)
    ]


def several_columns(schema) -> list[str]:
    """Names of the columns that hold a list a row, such as several labels."""
    import pyarrow as pa

    def holds_list(kind) -> bool:
        return pa.types.is_list(kind) or pa.types.is_large_list(kind)

    return [f.name for f in schema if holds_list(f.type) or pa.types.is_fixed_size_list(f.type)]


def class_names(schema) -> dict[str, list[str]]:
    """Names of ClassLabel columns by column, as `datasets` stores them."""
    return {
        key: value["names"]
        for key, value in _features(schema).items()
        if isinstance(value, dict) and isinstance(value.get("names"), list)
    }


def _open(file: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, memory_map=True)
    except (pa.ArrowException, OSError):
        cure = "it is a pointer of git-lfs: git lfs pull" if _is_pointer(file) else "write it again"
        raise DataError(f"{file.name} is not a readable parquet file: {cure}") from None


def _is_pointer(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            return stream.read(len(LFS)) == LFS
    except OSError:
        return False


def _features(schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (KeyError, ValueError, TypeError):
        return {}


def image_column(schema) -> str:
    """The column of pictures. DataError if there is none, or several that could be."""
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
            "the file has no unambiguous image column: name it `image`, as bytes or a"
            " struct of bytes and path"
        )
    return able[0]
