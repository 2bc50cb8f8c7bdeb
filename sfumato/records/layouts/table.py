"""A table beside its pictures: metadata.csv or .jsonl, or any table that names them."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from .. import tables
from ..bounded import SMALL, rehearse
from ..columns import FLAGS, Listing, label_column, spelt_in
from ..decode import BadImage
from ..rules import refuse
from ..trees import Tree, TreeReader, tree_of
from .descend import PLAIN
from .folders import is_flat
from .names import Names
from .splits import chosen_split, kind_of, split_name

USUAL = ("metadata.csv", "metadata.jsonl")
_BOTH = {"0", "1", "True", "False", None}
MOST_HEAD = 2**16  # bytes of a table's first line


def find(tree: Tree, part: str, options: dict[str, Any]) -> str | None:
    """The table of a tree: metadata.csv or .jsonl, else the one at its top that names images.

    Another name counts where the table holds labels, or a column that was asked for, or where no
    folder would be a class. DataError, or a reason for somebody who looks, for several.
    """
    usual = [name for name in USUAL if name in tree.known]
    if len(usual) > 1:
        raise DataError("the folder has both metadata.csv and metadata.jsonl: keep one")
    if usual or not tree.pictures or options["before"]:
        return usual[0] if usual else None
    heads = {name: _head(tree, name) for name in tree.names if _may_be(name)}
    found = [name for name, head in heads.items() if head and _serves(tree, head, options)]
    splits = {name: _split_of(name) for name in found}
    if found and all(splits.values()):
        chosen = chosen_split(sorted({word for word in splits.values() if word}), part)
        found = [name for name in found if splits[name] == chosen]
    if len(found) > 1:
        refuse(
            f"{len(found)} tables name images ({', '.join(found[:4])}): give the one that is meant"
            " as the path, or --layout folders",
            options["refusals"],
        )
    return found[0] if len(found) == 1 else None


def _may_be(name: str) -> bool:
    return "/" not in name and name.lower().endswith(tables.TABLE_SUFFIXES)


def _split_of(name: str) -> str | None:
    words = name.rsplit(".", 1)[0].replace("-", "_").split("_")
    return next((split_name(word) for word in words if kind_of(word)), None)


def _serves(tree: Tree, head: list[str], options: dict[str, Any]) -> bool:
    asked = [options[what] for what in FLAGS if options[what] is not None]
    if label_column(head) or any(spelt_in(name, head) in head for name in asked):
        return True
    return options["unlabelled"] or is_flat(tree, options)


def _head(tree: Tree, name: str) -> list[str]:
    """The columns of a table that names images, by its first line; none for another."""
    try:
        data = tree.read(name)[:MOST_HEAD]
    except BadImage:
        return []
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    first = data.decode("utf-16" if wide else "utf-8-sig", "replace").split("\n", 1)[0]
    if name.lower().endswith((".jsonl", ".ndjson")):
        try:
            row = json.loads(first)
        except (ValueError, RecursionError):
            return []
        head = list(row) if isinstance(row, dict) else []
    else:
        head = [cell.strip().strip('"') for cell in first.split(tables.separator(first))]
    return head if tables.path_column(head) is not None else []


def of_file(path: Path, part: str, options: dict[str, Any]) -> Listing:
    """The listing of a table that was named itself; its pictures lie beside it."""
    return listing(tree_of(path.parent), path.name, part, options)


def listing(tree: Tree, table: str, part: str, options: dict[str, Any]) -> Listing:
    """The records of a table in a tree. DataError for one that cannot be read."""
    rows, columns, several = _rows(tree, table)
    named = [row.get("file_name") for row in rows]
    files = Names(tree, table).found(named)
    said = [f"a table ({table}) names the images"]
    splits = split_folders(files)
    chosen = chosen_split(splits, part) if splits else None
    if splits:
        keep = [i for i, file in enumerate(files) if of_split(file, splits, chosen)]
        said.append(f"folders {', '.join(splits)}: read as splits, here {chosen}")
        files, rows = [files[i] for i in keep], [rows[i] for i in keep]
    labels = None
    if label_column(columns) is None and options["labels"] is None and not options["unlabelled"]:
        labels = None if _yes_no(table, columns, rows) != table else _folders(files)
    same = tree.numbers_of(files)
    different = len(set(same.tolist()))
    if different < len(files):
        said.append(
            f"{len(files) - different:,} rows name an image that another row names, too: all rows"
            " of one image are one unit"
        )
    return Listing(
        "table",
        TreeReader(tree, tuple(files)),
        len(rows),
        said=tuple(said),
        columns=columns,
        column=lambda name: [row.get(name) for row in rows],
        labels=labels,
        several=several,
        same=same,
        table=_yes_no(table, columns, rows),
        ignored=_left(tree, files, splits, chosen),
    )


def _rows(tree: Tree, table: str) -> tables.Table:
    file = tree.place / table
    if file.is_file():
        rehearse([file])
        return tables.read_table(file)
    try:
        data = tree.read(table)
    except BadImage as bad:
        raise DataError(f"{table} cannot be read ({bad.rule})") from None
    if len(data) > SMALL:
        raise DataError(f"{table} is too large to be read out of an archive: unpack the archive")
    return tables.parse_table(data, table)


def split_folders(files: Sequence[str]) -> list[str]:
    """Folders at the top that are splits; none where one of them may be a class beside others."""
    first = sorted({file.split("/")[0] for file in files if "/" in file})
    splits = [folder for folder in first if kind_of(folder)]
    return splits if len(splits) > 1 or len(splits) == len(first) else []


def of_split(file: str, splits: Sequence[str], chosen: str | None) -> bool:
    """Whether a file lies in the chosen split, or in none of them."""
    first = file.split("/")[0] if "/" in file else None
    return first == chosen or first not in splits


def _folders(files: list[str]) -> list[str | None] | None:
    """The first folder of each file that is no split; None where it says nothing of a class."""
    parts = [[p for p in file.split("/")[:-1] if kind_of(p) is None and p != "."] for file in files]
    if not files or not all(parts) or {part[0].lower() for part in parts} <= PLAIN:
        return None
    return [part[0] for part in parts]


def _yes_no(table: str, columns: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """What a refusal calls the table: one with a column of yes and no for each class says so."""
    found = [
        name for name in columns if name != "file_name" and {row.get(name) for row in rows} <= _BOTH
    ]
    if len(found) < 3:
        return table
    return (
        f"{table} has {len(found)} columns of 0 and 1, such as several labels for one image (an"
        " image has one class here), and"
    )


def _left(tree: Tree, files: list[str], splits: list[str], chosen: str | None) -> Counter:
    held = set(files)
    ignored = Counter(tree.left_out())
    ignored["image not in the table"] = sum(
        1 for name in tree.pictures if name not in held and of_split(name, splits, chosen)
    )
    return ignored
