"""What a layout says about its records: columns by name, and a way to their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .spelling import column_form, unit_value
from .tables import LABEL_COLUMNS

if TYPE_CHECKING:
    from .recordset import RecordSet

FLAGS = {"labels": "--labels", "captions": "--captions", "unit": "--unit"}
COLUMNS = ("table", "parquet", "arrow", "webdataset")  # layouts that have columns
SPLIT_COLUMNS = ("split", "subset", "partition")

Column = Sequence[str | None]


@dataclass(frozen=True)
class Listing:
    """n records of one layout.

    Attributes:
        kind: The layout, as `--layout` names it.
        read: Place of a record -> its encoded picture; BadImage with the rule. It may have `names`
            (of files), `box` (place -> the part of the picture that is the record).
        n: Number of records.
        said: What was seen and why it was read so, a line each, for the owner.
        columns: Names of columns that can be asked for.
        column: Name -> values.
        labels: Values where no column holds them (folder names); None without.
        label_column: The column of labels where none is named; None for `labels`.
        names: ClassLabel names by column.
        several: Columns that hold lists, which are neither labels nor units.
        lists: Those of them that are texts, a line each, and no `columns`.
        by_folder: Values of `--unit folder`; None where there are no folders.
        same: The picture of each record where several records may show one: equal numbers are one
            picture, and one unit where no unit is named. None: each has its own.
        by_bytes: Records are rows, not files: those of equal bytes are one picture likewise.
        table: What messages call it.
        ignored: Files that are no records: reason -> count.
    """

    kind: str
    read: Callable[[int], bytes]
    n: int
    said: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    column: Callable[[str], Column] = field(default=lambda name: ())
    labels: Column | None = None
    label_column: str | None = None
    names: dict[str, list[str]] = field(default_factory=dict)
    several: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    by_folder: Column | None = None
    same: np.ndarray | None = None
    by_bytes: bool = False
    table: str = "the table"
    ignored: Counter = field(default_factory=Counter)


# Columns that say which file a row's picture was, best first.
KEYS = ("file_name", "filename", "file", "image_path", "path", "key", "__key__")


def name_of(records: RecordSet, place: int) -> str:
    """What the owner finds a record by: its file or key, else a column that names it, else its row.

    For private lists.

    Args:
        records: Of any layout.
        place: In the order of the source.
    """
    names: Sequence[str] | None = getattr(records.read, "names", None)
    if names:
        return names[place]
    table = records.facts.table
    found = (table[name][place] for name in KEYS if name in table)
    return next((name for name in found if name), f"row {place + 1}")


def label_column(columns: Sequence[str]) -> str | None:
    """The column of labels among some, where none is named, whatever its capitals."""
    spelt = {unit_value(name): name for name in reversed(columns)}
    return next((spelt[name] for name in (*LABEL_COLUMNS, "cls") if name in spelt), None)


def wanted(options: dict[str, Any]) -> list[str] | None:
    """The columns to be read, as `column_form` spells them; None for all, for somebody who looks.

    What is not read of a large set takes no memory.
    """
    if options["refusals"] is not None:
        return None
    asked = [options[what] for what in FLAGS if options[what] is not None]
    return sorted({column_form(name) for name in (*asked, *LABEL_COLUMNS, *SPLIT_COLUMNS, "cls")})


def spelt_in(name: str, columns: Sequence[str]) -> str:
    """A column as it is spelt in the file: the name itself, or the only one that is like it."""
    if name in columns:
        return name
    for form in (unit_value, column_form):
        like = [column for column in columns if form(column) == form(name)]
        if len(like) == 1:
            return like[0]
    return name
