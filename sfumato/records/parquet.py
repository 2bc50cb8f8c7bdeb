"""Parquet tables with images inside, as `datasets` writes them.

A struct of bytes and path, or plain bytes. The files are read by the bounded process alone, one row
group in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .coded import Coded
from .decode import LFS, BadImage
from .folder import read_below
from .rules import DAMAGED
from .spelling import column_form
from .tables import lines_text

_held: dict[str, Any] = {}  # the row group that was read last, in the bounded process


def cell(file: Path, group: int, column: str, row: int) -> bytes:
    """One picture of a parquet file. In the bounded process; BadImage with the rule."""
    key = (str(file), group, column)
    if _held.get("key") != key:
        _held.clear()
        _held.update(column=_read_group(file, group, column), key=key)
    if row >= len(_held["column"]):
        raise BadImage(DAMAGED)
    return picture_in(_held["column"][row].as_py(), file.parent)


def picture_in(value: Any, folder: Path) -> bytes:
    """The bytes in a cell: plain, or a struct of bytes and path; BadImage where there are none."""
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return read_below(folder, value["path"])
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise BadImage("missing file")
    return value


def _read_group(file: Path, group: int, column: str):
    """One row group's images.

    BadImage for each of its slots if the file is damaged, or changed since it was listed.
    """
    import pyarrow as pa

    if not file.is_file():
        raise BadImage("missing file")
    try:
        return _open(file).read_row_group(group, columns=[column], use_threads=False).column(0)
    except MemoryError:  # Arrow's own is one of its other errors, too
        raise
    except (pa.ArrowException, OSError, DataError, IndexError, KeyError):
        raise BadImage(DAMAGED) from None


def read_through(files: list[Path]) -> None:
    """Reads all that will be read of these files once, a row group at a time.

    For the process that may die of it.
    """
    found = listing(files, None)
    for number, (group,), _ in found["batches"]:
        try:
            cell(files[number], group, found["image"], 0)
        except BadImage:
            continue


def listing(files: list[Path], asked: Collection[str] | None) -> dict[str, Any]:
    """What parquet files hold beside their pictures. In the bounded process.

    Args:
        files: Of one split.
        asked: Columns whose values are needed, as `spelling.column_form` spells them; None for all.

    Returns:
        `image`: the picture column; `flat`: names of columns of single values; `several`: of
        columns of lists; `names`: of ClassLabel columns; `columns`: `Coded` texts, of lists of
        texts, too; `batches`: (file, [row group], rows); `paths`: of pictures that have one each,
        for one who looks.

    Raises:
        DataError: Files cannot be read, differ in columns, or hold no image column.
    """
    import pyarrow as pa

    first = _open(files[0]).schema_arrow
    image, flat = image_column(first), flat_columns(first)
    able = [*flat, *text_lists(first)]
    needed = [name for name in able if asked is None or column_form(name) in asked]
    columns = {name: Coded() for name in needed}
    batches: list[tuple[int, list[int], int]] = []
    paths: list[str | None] = []
    named = asked is None and image_has_path(first, image)
    try:
        for number, file in enumerate(files):
            opened = _open(file)
            if opened.schema_arrow.names != first.names:
                raise KeyError
            for group in range(opened.num_row_groups):
                rows = opened.metadata.row_group(group).num_rows
                batches += [(number, [group], rows)] if rows else []
                if named:
                    held = opened.read_row_group(group, [f"{image}.path"], use_threads=False)
                    paths += held.column(image).combine_chunks().field("path").to_pylist()
                if columns:
                    held = opened.read_row_group(group, columns=needed, use_threads=False)
                    for name, column in columns.items():
                        column.add(map(lines_text, held.column(name).to_pylist()))
    except (pa.ArrowException, OSError, KeyError):
        raise DataError(
            "the parquet files cannot be read together: give files with the same columns"
        ) from None
    whole = all(paths) and len(set(paths)) == len(paths)
    return packed_listing(first, columns, batches) | {"paths": paths if whole else []}


def packed_listing(
    schema, columns: Mapping[str, Coded], batches: list[tuple[int, list[Any], int]]
) -> dict[str, Any]:
    """What `listing` returns of files with this schema, their texts and their batches."""
    return {
        "image": image_column(schema),
        "flat": flat_columns(schema),
        "several": several_columns(schema),
        "names": class_names(schema),
        "columns": {name: column.packed() for name, column in columns.items()},
        "batches": batches,
    }


def image_has_path(schema, image: str) -> bool:
    """Whether pictures stand beside their file names, as `datasets` writes them."""
    import pyarrow as pa

    kind = schema.field(image).type
    return pa.types.is_struct(kind) and kind.get_field_index("path") >= 0


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


def text_lists(schema) -> list[str]:
    """Names of the columns that hold a list of texts a row, such as several captions."""
    return [
        name
        for name in several_columns(schema)
        if str(schema.field(name).type.value_type) in ("string", "large_string")
    ]


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
        return pq.ParquetFile(file)
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
