"""Tables beside images: metadata.csv and metadata.jsonl as rows of strings."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError, SfumatoError

LABEL_COLUMNS = ("label", "class")
MAX_COLUMNS = 1000


def find_table(folder: Path) -> Path | None:
    """metadata.csv or metadata.jsonl of a folder, or None. Raises DataError when both are there."""
    found = [
        folder / name for name in ("metadata.csv", "metadata.jsonl") if (folder / name).is_file()
    ]
    if len(found) > 1:
        raise DataError("the folder has both metadata.csv and metadata.jsonl: keep one")
    return found[0] if found else None


def read_table(path: Path) -> tuple[list[dict[str, str | None]], tuple[str, ...]]:
    """Rows (column -> stripped text, None for an empty cell) and columns of a table, in file order.

    UTF-8 only, a byte-order mark is stripped. Raises DataError for another encoding, ragged or
    unreadable tables, no `file_name` column, and names that are absolute or climb out of the
    folder.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path.name} is not UTF-8 (it looks like latin-1): save it again as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__})") from None
    rows, columns = _jsonl(text, path.name) if path.suffix == ".jsonl" else _csv(text, path.name)
    if "file_name" not in columns:
        raise DataError(
            f"{path.name} has no column file_name: add one with each image's path relative to the"
            " table"
        )
    for row in rows:
        name = row.get("file_name") or ""
        if (
            name.startswith(("/", "\\"))
            or ".." in PurePosixPath(name.replace("\\", "/")).parts
            or "\0" in name
            or name[1:2] == ":"
        ):
            raise DataError(
                f"{path.name} names a file outside its folder: give paths relative to the table,"
                " without '..'"
            )
    return rows, columns


def _csv(text: str, name: str) -> tuple[list[dict[str, str | None]], tuple[str, ...]]:
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
    return rows, header


def separator(text: str) -> str:
    """What stands between the cells of a CSV text: by its first line, which names `file_name`.

    Spreadsheets write semicolons where the comma is the decimal mark.
    """
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    for mark in (",", ";", "\t"):
        if "file_name" in (cell.strip().strip('"') for cell in first.split(mark)):
            return mark
    return ","


def _jsonl(text: str, name: str) -> tuple[list[dict[str, str | None]], tuple[str, ...]]:
    rows, columns = [], {}
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
        rows.append({key: cell_text(value) for key, value in row.items()})
    return rows, tuple(columns)


def cell_text(value) -> str | None:
    """One cell as stripped text; None for what counts as missing (null, NaN, empty, nested)."""
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
