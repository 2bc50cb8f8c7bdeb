"""Records that are files: class folders, a table beside its images, and parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SfumatoError
from ..options.frames import PLAIN as PLAIN_RULE
from . import folder, parquet, tables
from .assemble import index_files, number_units
from .bounded import rehearse
from .build import labels_of, named, part_for, record_set
from .frames import FILE, SHOWN, Cells, spread, tags_of, with_tags
from .pictures import PLAIN
from .recordset import RecordSet
from .rules import NO_LABELS, refuse
from .split import file_digests

FOLDER = "folder"  # as --unit: the folder that an image lies in


def from_folder(root: Path, split: str, options: dict[str, Any]) -> RecordSet:
    """Records of a folder: by the table in it, or by its folders; `options` as in `load_records`.

    `split`: which of the folders train and test is read, where there are such.
    """
    table = tables.find_table(root)
    if table is None:
        inner = folder.split_folder(root, split)
        table = tables.find_table(inner)
        if table is None:
            return _from_class_folders(root, inner, options)
    return from_table(root, table, split, options)


def _from_class_folders(root: Path, inner: Path, options: dict[str, Any]) -> RecordSet:
    by_folder, tags = options["unit"] == FOLDER, tags_of(options, ())
    own = {FOLDER: by_folder, FILE: options["unit"] == FILE}
    for what, flag in (("labels", "--labels"), ("captions", "--captions"), ("unit", "--unit")):
        if (
            options[what] is not None
            and what not in tags
            and not (what == "unit" and any(own.values()))
        ):
            message = (
                f"no column {options[what]!r} for {flag}: class folders have no columns; "
                f"add metadata.csv with file_name and {options[what]}"
            )
            if options["refusals"] is None:
                raise SfumatoError(message)
            options["refusals"].append(message)
            options = options | {what: None}
    if options["unlabelled"] or "labels" in tags:
        ignored = Counter()
        names, labels = folder.walk(inner, ignored), None
    else:
        names, labels, ignored = folder.class_folders(inner, options["refusals"])
    if options["frames"] == PLAIN_RULE:
        kept = [at for at, name in enumerate(names) if folder.ending(name) in folder.OF_BEFORE]
        names = [names[at] for at in kept]
        labels = None if labels is None else [labels[at] for at in kept]
    reader = folder.FileReader(inner, tuple(names))
    units = folder.units_of(names, 0 if labels is None else 1) if by_folder else None
    listed = {"labels": labels, "unit": units, "captions": None}
    return _from_named(root, "folder", reader, listed, tags, options, ignored=ignored)


def from_table(root: Path, table: Path, split: str, options: dict[str, Any]) -> RecordSet:
    """Records of a csv or jsonl table, with its images beside it."""
    rehearse([table])
    rows, columns = tables.read_table(table)
    base = table.parent
    for row in rows:
        row["file_name"] = folder.as_stored(base, row.get("file_name") or "")
    rows = [
        row
        for row in rows
        if _first_part(row) in (split, None) or not _is_split(base, _first_part(row))
    ]
    names = tuple(row.get("file_name") or "" for row in rows)
    tags = tags_of(options, columns)
    listed = _columns(rows, columns, options, {*tags, *["unit"] * (options["unit"] == FILE)})
    if listed["labels"] is None and "labels" not in tags and not options["unlabelled"]:
        parts = [
            [p for p in name.split("/")[:-1] if p not in folder.SPLITS and p != "."]
            for name in names
        ]
        if not names or not all(parts):
            refuse(
                f"{table.name} {NO_LABELS}: name one with --labels, or use --unlabelled",
                options["refusals"],
            )
            options = options | {"unlabelled": True, "classes": None}
        else:
            listed["labels"] = [part[0] for part in parts]
    reader = folder.FileReader(base, names)
    ignored = Counter()
    unlisted = set(folder.walk(base, ignored)) - {name.removeprefix("./") for name in names}
    ignored.pop("not an image", None)  # the table itself
    ignored["image not in the table"] = sum(
        1 for name in unlisted if name.split("/")[0] not in folder.SPLITS - {split}
    )
    return _from_named(
        root,
        "table",
        reader,
        listed,
        tags,
        options,
        ignored=ignored,
        columns=columns,
        table=_values_of(rows, columns, options),
    )


def _from_named(
    root: Path,
    kind: str,
    files: folder.FileReader,
    listed: dict[str, Any],
    tags: dict[str, str],
    options: dict[str, Any],
    *,
    ignored: Counter,
    columns: tuple[str, ...] = (),
    table: dict[str, list[str | None]] | None = None,
) -> RecordSet:
    """Records of files with names: their frames, and what their headers say.

    `listed`: labels, unit and captions of the files; `tags`: those that DICOM tags give.
    """
    looking = options["refusals"] is not None
    asked = [*tags.values(), *(SHOWN if looking else ())]
    found = spread(files, len(files.names), options["frames"], asked)
    listed, options = with_tags(found, listed, tags, options)
    table = {name: found.of(values) or [] for name, values in (table or {}).items()}
    if looking:  # tags serve as columns do
        table |= {name: found.tags[name] for name in SHOWN if any(found.tags[name])}
        columns = tuple(dict.fromkeys((*columns, *table)))
    return _from_files(
        root,
        kind,
        found.reader,
        len(found.reader.rows),
        listed["labels"],
        listed["unit"],
        listed["captions"],
        options,
        ignored=ignored + found.left_out,
        columns=columns,
        table=table,
        broken=found.broken,
        kinds=dict(found.kinds),
        marked=dict(found.marked),
    )


def _first_part(row: dict[str, Any]) -> str | None:
    name = row.get("file_name") or ""
    return name.removeprefix("./").split("/")[0] if "/" in name else None


def _is_split(base: Path, part: str | None) -> bool:
    return part is not None and part.lower() in folder.SPLITS and (base / part).is_dir()


def _columns(
    rows: list[dict[str, Any]],
    columns: tuple[str, ...],
    options: dict[str, Any],
    elsewhere: Collection[str] = (),
) -> dict[str, Any]:
    """Labels, unit and captions; None for what was not named, or comes from `elsewhere`."""
    flags = {"labels": "--labels", "captions": "--captions", "unit": "--unit"}
    chosen = {what: options[what] for what in flags}
    if chosen["labels"] is None and not options["unlabelled"]:
        chosen["labels"] = next((name for name in tables.LABEL_COLUMNS if name in columns), None)
    found: dict[str, Any] = {}
    for what, name in chosen.items():
        try:
            found[what] = None
            if name is not None and what not in elsewhere:
                found[what] = tables.column(rows, columns, name, flags[what])
        except SfumatoError as error:
            if options["refusals"] is None:
                raise
            options["refusals"].append(str(error))
            found[what] = None
    return found


def from_parquet(root: Path, files: list[Path], options: dict[str, Any]) -> RecordSet:
    """Records of parquet files that hold the images."""
    rehearse(files, parquet=True)
    image, rows, columns, names = parquet.read_columns(files)
    rows = [{key: tables.cell_text(value) for key, value in row.items()} for row in rows]
    listed = _columns(rows, columns, options)
    if listed["labels"] is None and not options["unlabelled"]:
        refuse(
            f"the parquet file {NO_LABELS}: name one with --labels, or use --unlabelled",
            options["refusals"],
        )
        options = options | {"unlabelled": True, "classes": None}
    label_column = options["labels"] or next(
        (name for name in tables.LABEL_COLUMNS if name in columns), None
    )
    if label_column in names and listed["labels"] is not None:
        listed["labels"] = named(listed["labels"], names[label_column])
        options = options | {"names": names[label_column]}
    reader = parquet.ParquetImages(files, image)
    reader = Cells(reader) if options["frames"] == PLAIN_RULE else reader
    return _from_files(
        root,
        "parquet",
        reader,
        len(rows),
        listed["labels"],
        listed["unit"],
        listed["captions"],
        options,
        columns=columns,
        table=_values_of(rows, columns, options),
    )


def _values_of(
    rows: list[dict[str, Any]], columns: tuple[str, ...], options: dict[str, Any]
) -> dict[str, list[str | None]]:
    """All columns for somebody who only looks; nothing else keeps them."""
    if options["refusals"] is None:
        return {}
    return {name: [row.get(name) for row in rows] for name in columns}


def _from_files(
    root,
    kind,
    reader,
    n,
    labels,
    units,
    captions,
    options,
    *,
    ignored=None,
    columns=(),
    table=None,
    broken=None,
    **known,
) -> RecordSet:
    part = part_for(options, units, lambda: file_digests(reader, n))
    if part is not None:
        n, labels, units, captions = len(part.slots), *map(part.of, (labels, units, captions))
    rules: list[str | None] = [None] * n
    if broken is not None:
        rules = list(broken) if part is None else part.of(broken) or []
    numbers, classes = labels_of(labels, n, options, rules)
    unit = number_units(units, n, rules)
    place = None if part is None else part.slots
    read = reader if place is None else lambda slot: reader(int(place[slot]))
    known |= index_files(read, rules, options["values"], _frame_of(reader, place))
    known |= {"ignored": ignored or {}, "columns": columns, "table": table or {}}
    source = {"read": reader, "place": place}
    return record_set(
        root, kind, options, numbers, classes, unit, captions, rules, known, part, **source
    )


def _frame_of(reader: Any, place: np.ndarray | None) -> Callable[[int], int]:
    """Which frame of its file each slot is; PLAIN for a source that has no files."""
    of: Callable[[int], int] | None = getattr(reader, "frame", None)
    if of is None:
        return lambda slot: PLAIN
    return of if place is None else lambda slot: of(int(place[slot]))
