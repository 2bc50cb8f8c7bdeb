"""WebDataset: tar files whose members are one record where their names agree up to a dot.

The key of a record is the name up to the first dot of its last part; what follows is the column:
`.png`, `.cls`, `.txt`, `.json`. The tar files are read by the bounded process and stay packed.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import DataError
from ..archives import MEMBER, of_tar
from ..coded import Coded, numbers, packed, unpacked
from ..columns import Listing, label_column, wanted
from ..folder import OTHER_PICTURES, READABLE, is_hidden
from ..spelling import column_form
from ..tables import cell_text, first_line, holds_several
from ..trees import read_at
from ..unpacked import listed
from .splits import chosen_split, kind_of, split_name

PICTURES = {suffix[1:] for suffix in READABLE | OTHER_PICTURES}
TEXTS = ("cls", "txt", "text", "caption", "json")
NAMES = ("classnames.txt", "classes.txt", "labels.txt")
_Text = tuple[str, int, int]  # column, offset and bytes
MOST = 2**20  # bytes of a text, label or json of one record


def shards(root: Path, part: str) -> tuple[list[Path], str | None]:
    """(The tar files of a part, the line that says which): by folders or names of splits."""
    if root.is_file():
        return [root], None
    tars = root.rglob("*.tar")
    found = sorted(path for path in tars if not is_hidden(*path.relative_to(root).parts))
    splits = {path: _split_of(path, root) for path in found}
    named = sorted({word for word in splits.values() if word})
    if not named:
        return found, None
    chosen = chosen_split(named, part)
    held = [path for path in found if splits[path] == chosen]
    return held, f"tar files of {', '.join(named)}: read as splits, here {chosen}"


def _split_of(path: Path, root: Path) -> str | None:
    """The split that a folder on the way, or a word of the name, is."""
    *folders, name = path.relative_to(root).parts
    words = [w for w in name.removesuffix(".tar").replace("_", "-").replace(".", "-").split("-")]
    for word in (*folders, *words):
        if kind_of(word):
            return split_name(word)
    return None


def is_webdataset(members: list[Any]) -> bool:
    """Whether a tar's members are records of WebDataset, and no packed folder tree."""
    names = [name for name, *_ in members]
    columns = {_parts(name)[1] for name in names}
    return not columns.isdisjoint(("cls", "json")) or all(
        "/" not in name.removeprefix("./") for name in names
    )


def _parts(name: str) -> tuple[str, str]:
    """(Key, column) of a member."""
    folder, _, base = name.replace("\\", "/").removeprefix("./").rpartition("/")
    key, _, column = base.partition(".")
    return (f"{folder}/{key}" if folder else key), column.lower()


def listing_of(root: Path, files: list[Path], said: str | None, options: dict[str, Any]) -> Listing:
    """The records of tar files."""
    found = listed("webdataset", files, wanted(options))
    columns = tuple(found["flat"])
    values = {name: unpacked(cells) for name, cells in found["columns"].items()}
    names = _class_names(root if root.is_dir() else root.parent, values.get("cls"))
    where = numbers(found["where"]).reshape(-1, 2)
    return Listing(
        "webdataset",
        TarPictures(files, found["starts"], where, found["keys"]),
        len(where),
        said=("WebDataset tar files", *([said] if said else [])),
        columns=columns,
        column=lambda name: values[name],
        label_column="cls" if "cls" in columns else label_column(columns),
        names={"cls": names} if names else {},
        several=tuple(found["several"]),
        by_bytes=True,
        table="the tar file",
        ignored=Counter(found["ignored"]),
    )


def _class_names(folder: Path, labels: list[str | None] | None) -> list[str]:
    """Names of classes by number, from a list beside the tar files; none where they do not fit."""
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None or labels is None:
        return []
    try:
        names = file.read_bytes()[:MOST].decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    names = [name.strip() for name in names]
    names = names[:-1] if names and not names[-1] else names
    fits = all(label is None or label.isdigit() and int(label) < len(names) for label in labels)
    return names if fits and all(names) and len(set(names)) == len(names) else []


class TarPictures:
    """Reads slot -> the bytes of its picture, in place; `names` are keys, for one who looks."""

    def __init__(self, files: list[Path], starts: list[int], where: np.ndarray, names: list[str]):
        self.files, self.starts, self.where, self.names = files, starts, where, names

    def __call__(self, slot: int) -> bytes:
        """The encoded picture of a slot."""
        start, size = self.where[slot].tolist()
        return read_at(self.files[bisect_right(self.starts, slot) - 1], start, size)


def listing(paths: list[Path], asked: list[str] | None) -> dict[str, Any]:
    """What tar files hold beside their pictures. In the bounded process.

    Args:
        paths: The tar files, in order.
        asked: Columns whose values are needed, as `spelling.column_form` spells them; None for all.

    Returns:
        `where`: offset and bytes of each picture; `keys`: of each record, if all columns are
        asked for; `starts`: the first record of each file; `flat`:
        columns of single values; `several`: columns of lists; `columns`; `ignored`.

    Raises:
        DataError: A file is damaged, holds a member twice, or several pictures in a record.
    """
    where = array("q")
    starts, keys, n = [], [], 0
    flat: dict[str, bool] = {}  # and whether its values are needed
    several: dict[str, None] = {}
    ignored: Counter = Counter()
    columns: dict[str, Coded] = {}
    for path in paths:
        starts.append(n)
        with open(path, "rb") as stream:
            for key, picture, texts in _records(path, ignored):
                where.extend(picture)
                if asked is None:
                    keys.append(f"{path.name}: {key}" if len(paths) > 1 else key)
                cells = _cells(stream, texts, several)
                for name in cells.keys() - flat.keys():
                    flat[name] = asked is None or column_form(name) in asked
                    if flat[name]:
                        columns[name] = Coded()
                        columns[name].add([None] * n)
                n += 1
                for name, column in columns.items():
                    column.add([cells.get(name)])
    return {
        "where": packed(np.array(where, "<i8")),
        "starts": starts,
        "keys": keys,
        "flat": sorted(flat),
        "several": sorted(several),
        "columns": {name: column.packed() for name, column in columns.items()},
        "ignored": ignored,
    }


def _records(path: Path, ignored: Counter) -> Iterator[tuple[str, tuple[int, int], list[_Text]]]:
    """(Key, offset and bytes of the picture, texts) of each record of a tar, in order."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for name, start, size, how in of_tar([path])["members"]:
        key, column = _parts(name)
        if is_hidden(*(part for part in name.split("/") if part != ".")):
            continue
        if how != MEMBER or not column:
            ignored["links or files without a suffix in a tar"] += 1
            continue
        record = found.setdefault(key, {})
        if column in record:
            raise DataError(
                f"{path.name} holds a member twice, and which of the two is meant cannot be known:"
                " pack it again with each name once"
            )
        record[column] = (start, size)
    for key, record in found.items():
        pictures = [column for column in record if column.rsplit(".", 1)[-1] in PICTURES]
        plain = [column for column in pictures if "." not in column]
        if not pictures:
            ignored["records of a tar without an image"] += 1
            continue
        if len(pictures) > 1 and len(plain) != 1:
            raise DataError(
                f"{path.name} holds several images in one record: pack one image a record, as"
                " KEY.png"
            )
        (picture,) = plain if len(plain) == 1 else pictures
        ignored["other images of a record in a tar"] += len(pictures) - 1
        texts = [(c, *at) for c, at in record.items() if c.rsplit(".", 1)[-1] in TEXTS]
        yield key, record[picture], texts


def _cells(stream: BinaryIO, texts: list[_Text], several: dict[str, None]) -> dict[str, str | None]:
    """Column -> value of the texts of one record; each key of a json is a column."""
    cells: dict[str, str | None] = {}
    for column, start, size in sorted(texts):
        if size > MOST:
            continue
        stream.seek(start)
        text = stream.read(size).decode("utf-8-sig", "replace")
        if not column.endswith("json"):
            last = column.rsplit(".", 1)[-1]
            cells[column] = cell_text(text) if last == "cls" else first_line(text)
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        for key, cell in value.items() if isinstance(value, dict) else [(column, value)]:
            if holds_several(cell):
                several[key] = None
            elif not isinstance(cell, dict):
                cells.setdefault(key, cell_text(cell))
    return cells
