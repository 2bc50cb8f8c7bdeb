"""Tables beside images: metadata.csv and metadata.jsonl as rows of strings."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import DataError, SfumatoError
from .spelling import column_form

LABEL_COLUMNS = ("label", "class")
# What a column of paths is called, without capitals, spaces and punctuation.
PATH_COLUMNS = (
    *("filename", "filepath", "filepaths", "file", "files", "relativepath", "relpath"),
    *("imagepath", "imagefile", "imagefilename", "imagename", "imgpath", "imgname", "imgfile"),
    *("path", "paths", "image", "img", "picture", "photo", "imageid", "imgid"),
    *("imageindex", "imagenames", "images", "filepathname"),
)
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_COLUMNS = 1000


class Table(NamedTuple):
    """Rows (column -> stripped text, None for an empty cell) and columns, in file order.

    `several`: columns of which a cell holds more than one value, each a line of its text.
    """

    rows: list[dict[str, str | None]]
    columns: tuple[str, ...]
    several: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """A table beside images.

    The column of paths is `file_name`, whatever the table calls it (`PATH_COLUMNS`). Raises
    DataError for another encoding, ragged or unreadable tables, no such column, and names that
    climb out of the folder.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__})") from None
    return parse_table(data, path.name)


def parse_table(data: bytes, name: str) -> Table:
    """`read_table` of the bytes of a table with a name."""
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # "Unicode text" of a spreadsheet
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{name} is not UTF-8 (it looks like latin-1): save it again as UTF-8"
        ) from None
    lines = name.lower().endswith((".jsonl", ".ndjson"))
    rows, columns, several = _jsonl(text, name) if lines else _csv(text, name)
    paths = path_column(columns)
    if paths is None:
        raise DataError(
            f"{name} has no column file_name: add one with each image's path relative to the table"
        )
    for row in rows:
        if paths != "file_name":
            row["file_name"] = row.pop(paths, None)
        file = row.get("file_name") or ""
        if ".." in PurePosixPath(file.replace("\\", "/")).parts or "\0" in file:
            raise DataError(
                f"{name} names a file outside its folder: give paths relative to the table,"
                " without '..'"
            )
    columns = tuple("file_name" if column == paths else column for column in columns)
    return Table(rows, columns, several)


def path_column(columns: Collection[str]) -> str | None:
    """The column that names files, by its name: `file_name`, or the first of `PATH_COLUMNS`."""
    if "file_name" in columns:
        return "file_name"
    spelt = {column_form(name): name for name in reversed(list(columns))}
    return next((spelt[name] for name in PATH_COLUMNS if name in spelt), None)


def _csv(text: str, name: str) -> Table:
    try:
        lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator(text))
        header = tuple(cell.strip() for cell in next(lines, ()))
        if len(header) > MAX_COLUMNS or len(set(header)) < len(header):
            raise DataError(
                f"{name} has a duplicate column name or more than {MAX_COLUMNS} columns: correct"
                " its first line"
            )
        rows = []
        for line in lines:
            if len(line) > len(header):
                raise DataError(
                    f"{name} line {lines.line_num} has more cells than the header: quote cells that"
                    " contain commas"
                )
            if line:
                cells = [cell_text(cell) for cell in line] + [None] * (len(header) - len(line))
                rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error:
        raise DataError(
            f"{name} is not a readable CSV file near line {lines.line_num}: save it again as CSV"
        ) from None
    return Table(rows, header)


def separator(text: str) -> str:
    """What stands between the cells of a CSV text: by its first line, which names files.

    Spreadsheets write semicolons where the comma is the decimal mark.
    """
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    for mark in (",", ";", "\t", "|"):
        if path_column([cell.strip().strip('"') for cell in first.split(mark)]) is not None:
            return mark
    return ","


def _jsonl(text: str, name: str) -> Table:
    rows, columns, several = [], {}, {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{name} line {number} is not JSON: give one object per line") from None
        if not isinstance(row, dict) or len(row) > MAX_COLUMNS:
            raise DataError(
                f"{name} line {number} is not an object of at most {MAX_COLUMNS} keys: give one"
                " object per line"
            )
        columns.update(dict.fromkeys(row))
        several.update(dict.fromkeys(k for k, v in row.items() if holds_several(v)))
        rows.append({key: lines_text(value) for key, value in row.items()})
    return Table(rows, tuple(columns), tuple(several))


def holds_several(value: Any) -> bool:
    """Whether a cell holds more than one value."""
    return isinstance(value, list) and len(value) > 1


def lines_text(value) -> str | None:
    """A cell as text, of a list each value that is one as a line: several captions of one image."""
    if not holds_several(value):
        return cell_text(value)
    parts = (" ".join((cell_text(part) or "").split()) for part in value)
    return "\n".join(part for part in parts if part) or None


def cell_text(value) -> str | None:
    """One cell as stripped text; None for what counts as missing (null, NaN, empty, nested).

    A list of one value is that value.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and not isinstance(value, bool):
        if not math.isfinite(value):
            return None
        value = int(value) if value == int(value) else value
    if isinstance(value, (str, int, float)):
        return str(value).strip() or None
    return None


def column(
    rows: list[dict[str, Any]], columns: tuple[str, ...], name: str, flag: str
) -> list[str | None]:
    """One column by name. Raises SfumatoError naming the columns there are."""
    if name not in columns:
        there = ", ".join(repr(c) for c in columns[:12]) or "none"
        raise SfumatoError(f"no column {name!r} for {flag}: there are {there}")
    return [row.get(name) for row in rows]


def first_line(text: str | None) -> str | None:
    """The first line of a caption that is not empty, as trainers take it."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), None)
