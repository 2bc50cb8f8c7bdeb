"""What a layout says about its records, and from there to a RecordSet, whatever the layout."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import SfumatoError
from .assemble import index_files, number_units
from .build import labels_of, named, part_for, record_set
from .columns import FLAGS, SPLIT_COLUMNS, Column, Listing, label_column, spelt_in
from .frames import FILE, PATIENT, SHOWN, Cells, people_apart, spread, tags_of, with_tags
from .layouts.splits import chosen_split, kind_of
from .pictures import PLAIN, WHOLE
from .proposals import joined
from .recordset import RecordSet
from .rules import NO_LABELS, refuse
from .spelling import unit_value
from .split import file_digests
from .trees import TreeReader


def from_listing(root, listing: Listing, split: str, options: dict[str, Any]) -> RecordSet:
    """The RecordSet of a listing; DataError or SfumatoError for columns that do not fit.

    Args:
        root: Where it lies.
        listing: What the layout says.
        split: The stored split to read, where a column names splits.
        options: As `load_records` collects them.
    """
    tags = tags_of(options, listing.columns) if _has_tags(listing) else {}
    columns, options = _columns(listing, options, {*tags, *_own_unit(listing, options)})
    listing = replace(listing, said=(*listing.said, *_several_said(listing, columns["labels"])))
    kept = _kept(listing, split, options)
    if kept is not None and len(kept[1]) < listing.n:
        listing, columns = _taken(listing, columns, kept[1])
        said = f"column {kept[0]!r} names splits: only {split} is read"
        listing = replace(listing, said=(*listing.said, said))
    if options["before"]:
        said = "read as earlier versions read: each row is a unit of its own"
        listing = replace(listing, same=None, by_bytes=False, said=(*listing.said[:1], said))
    if _has_tags(listing):
        return _from_named(root, listing, columns, tags, options)
    reader = Cells(listing.read) if options["before"] else listing.read
    return _from_files(root, replace(listing, read=reader), columns, options)


def _has_tags(listing: Listing) -> bool:
    """Whether the records are files, which may have frames and a header."""
    return type(listing.read) is TreeReader


def _own_unit(listing: Listing, options: dict[str, Any]) -> list[str]:
    return ["unit"] * (options["unit"] == FILE and _has_tags(listing))


def _taken(
    listing: Listing, columns: dict[str, Column | None], at: np.ndarray
) -> tuple[Listing, dict[str, Column | None]]:
    """Some records of a listing, and their labels, captions and units."""
    read, all_of = listing.read, listing.column
    reader = read.taken(at) if isinstance(read, TreeReader) else lambda slot: read(int(at[slot]))
    part = replace(
        listing,
        read=reader,
        n=len(at),
        column=lambda name: _of(all_of(name), at) or [],
        same=None if listing.same is None else listing.same[at],
    )
    return part, {what: _of(values, at) for what, values in columns.items()}


def _from_named(
    root, listing: Listing, columns: dict[str, Any], tags: dict[str, str], options: dict[str, Any]
) -> RecordSet:
    """Records of files with names: their frames, and what their headers say."""
    looking = options["refusals"] is not None
    asked = [*tags.values(), *(SHOWN if looking else ())]
    files = listing.read
    assert isinstance(files, TreeReader)
    found = spread(files, listing.n, options["frames"], asked)
    columns, options = with_tags(found, columns, tags, options)
    rows, every = found.reader.rows, listing.column
    shown = {name: found.tags[name] for name in SHOWN if looking and any(found.tags[name])}
    listing = replace(
        listing,
        read=found.reader,
        n=len(rows),
        columns=tuple(dict.fromkeys((*listing.columns, *shown))),
        column=lambda name: shown[name] if name in shown else found.of(every(name)) or [],
        same=None if listing.same is None else listing.same[rows],
        ignored=listing.ignored + found.left_out,
    )
    more = {"kinds": dict(found.kinds), "marked": dict(found.marked)}
    columns["people"] = found.tags[PATIENT]
    return _from_files(root, listing, columns, options, found.broken, **more)


def _of(values: Column | None, slots: np.ndarray) -> Column | None:
    return None if values is None else [values[slot] for slot in slots.tolist()]


def _several_said(listing: Listing, labels: Column | None) -> list[str]:
    """A line on images that stand in several rows with different labels."""
    if listing.kind != "table" or listing.same is None or labels is None:
        return []
    of: dict[int, set[str | None]] = {}
    for picture, label in zip(listing.same.tolist(), labels):
        of.setdefault(picture, set()).add(label)
    count = sum(len(different) > 1 for different in of.values())
    said = (
        f"{count:,} images have several labels, a row each: each row is a record of its class, and"
        " all of an image are one unit"
    )
    return [said] if count else []


def _kept(listing: Listing, split: str, options: dict[str, Any]) -> tuple[str, np.ndarray] | None:
    """(Column, places) of the records of a split, where one column names splits and nothing else.

    Not where that column is asked for as something else.
    """
    for name in listing.columns:
        if unit_value(name) not in SPLIT_COLUMNS or name in (options[what] for what in FLAGS):
            continue
        cells = listing.column(name)
        there = sorted({cell for cell in cells if cell})
        try:
            chosen = chosen_split(there, split) if there else None
        except SfumatoError as error:
            refuse(str(error).replace("give one of them as the path", _BY_COLUMN), None)
        if chosen is not None and all(map(kind_of, there)):
            return name, np.array([i for i, cell in enumerate(cells) if cell == chosen], np.int64)
    return None


_BY_COLUMN = "leave one of them in the column, or rename it"


def _columns(
    listing: Listing, options: dict[str, Any], elsewhere: Collection[str]
) -> tuple[dict[str, Column | None], dict[str, Any]]:
    """Values of labels, captions and units, and the options as they can be followed.

    `elsewhere`: those that come from headers.
    """
    names = {what: None if what in elsewhere else options[what] for what in FLAGS}
    found: dict[str, Column | None] = {}
    if options["unit"] == "folder" and listing.by_folder is not None:
        names["unit"], found["unit"] = None, listing.by_folder
    if "labels" not in elsewhere and names["labels"] is None and not options["unlabelled"]:
        names["labels"] = listing.label_column or label_column(listing.columns)
    for what, name in names.items():
        if name is None:
            found.setdefault(what, None)
            continue
        readable = (*listing.columns, *(listing.lists if what == "captions" else ()))
        spelt = spelt_in(name, readable)
        if what == "unit" and spelt in listing.several:
            readable = ()
        if spelt in readable:
            found[what] = listing.column(spelt)
            if what == "labels" and spelt in listing.names:
                found[what] = named(found[what] or (), listing.names[spelt])
                options = options | {"names": listing.names[spelt]}
            if what == "labels" and spelt in listing.several:
                refuse(_without_labels(listing), options["refusals"])
            if what == "labels" and options["classes"] is None:
                _require_one_label(spelt, found[what] or (), options["refusals"])
            continue
        message = _no_column(listing, name, FLAGS[what])
        if options["refusals"] is None:
            raise SfumatoError(message)
        options["refusals"].append(message)
        found[what] = None
        options = options | {what: None}
    if options["unlabelled"] or "labels" in elsewhere:
        found["labels"] = None
    elif found["labels"] is None and names["labels"] is None:
        found["labels"] = listing.labels
        if listing.labels is None:
            refuse(_without_labels(listing), options["refusals"])
            options = options | {"unlabelled": True, "classes": None}
    elif found["labels"] is None:
        found["labels"] = listing.labels
        if listing.labels is None:
            options = options | {"unlabelled": True, "classes": None}
    return found, options


def _require_one_label(name: str, cells: Column, refusals: list[str] | None) -> None:
    """A refusal of a column whose cells join several labels, such as "Edema|Mass"."""
    mark = next((mark for mark in ("|", ";") if joined([c for c in cells if c], mark)), None)
    if mark is not None:
        refuse(
            f"column {name!r} holds several labels for one image, joined by {mark!r}, and an image"
            " has one class here: make a column with one label each, declare the joined names as"
            " they are with --classes, or use --unlabelled",
            refusals,
        )


def _require_one_unit(unit: np.ndarray, same: np.ndarray, refusals: list[str] | None) -> None:
    """A refusal of images that stand in rows of different units: each unit is promised its own."""
    pairs = np.unique(np.stack([same, unit]), axis=1)[0]
    shared = int((np.unique(pairs, return_counts=True)[1] > 1).sum())
    if shared:
        refuse(
            f"{shared:,} images stand in rows of different units, and what is promised to a unit"
            " holds for all of its images: give all rows of an image one unit",
            refusals,
        )


def _no_column(listing: Listing, name: str, flag: str) -> str:
    if name in listing.several:
        return (
            f"column {name!r} for {flag} holds a list for each image, such as several labels: an"
            " image has one class here; make a column with one value each"
        )
    if not listing.columns:
        return (
            f"no column {name!r} for {flag}: class folders have no columns; "
            f"add metadata.csv with file_name and {name}"
        )
    there = ", ".join(repr(c) for c in listing.columns[:12])
    return f"no column {name!r} for {flag}: there are {there}"


def _without_labels(listing: Listing) -> str:
    lists = [name for name in listing.several if unit_value(name).rstrip("s") in ("label", "class")]
    if lists:
        return (
            f"column {lists[0]!r} holds several labels for each image, and an image has one class"
            " here: make a column with one label each, name another with --labels, or use"
            " --unlabelled"
        )
    return f"{listing.table} {NO_LABELS}: name one with --labels, or use --unlabelled"


def _from_files(
    root,
    listing: Listing,
    columns: dict[str, Any],
    options: dict[str, Any],
    broken: Sequence[str | None] | None = None,
    **known,
) -> RecordSet:
    labels, units, captions = (columns[what] for what in ("labels", "unit", "captions"))
    people = columns.get("people")
    reader, n, same = listing.read, listing.n, listing.same
    part = part_for(options, units, lambda: file_digests(reader, n))
    if part is not None:
        n, labels, units, captions = len(part.slots), *map(part.of, (labels, units, captions))
        same = None if same is None else same[part.slots]
        broken, people = part.of(broken), part.of(people)
    rules: list[str | None] = [None] * n if broken is None else list(broken)
    numbers, classes = labels_of(labels, n, options, rules)
    place = None if part is None else part.slots
    read = reader if place is None else lambda slot: reader(int(place[slot]))
    unit = None if units is None else number_units(units, n, rules)
    del units, labels
    frame, box = (_part_of(reader, what, whole, place) for what, whole in _PARTS)
    known |= index_files(read, rules, options["values"], frame, box)
    if unit is not None and same is not None:
        _require_one_unit(unit.number, same, options["refusals"])
    elif unit is None:
        alike = known["seals"].numbered() if same is None and listing.by_bytes else same
        unit = number_units(None, n, rules, alike)
    looking = options["refusals"] is not None
    known |= {
        "before": options["before"],
        "ignored": listing.ignored,
        "columns": listing.columns,
        "table": {c: list(listing.column(c)) for c in listing.columns} if looking else {},
        "layout": listing.said,
        "people_apart": 0 if people is None else people_apart(people, unit.number, rules),
    }
    source = {"read": reader, "place": place}
    return record_set(
        root,
        listing.kind,
        options,
        numbers,
        classes,
        unit,
        captions,
        rules,
        known,
        part,
        **source,
    )


_PARTS: tuple[tuple[str, Any], ...] = (("frame", PLAIN), ("box", WHOLE))


def _part_of(reader: Any, what: str, whole: Any, place: np.ndarray | None) -> Callable[[int], Any]:
    """Which frame or part of its file each slot is; `whole` for a source that has none."""
    of: Callable[[int], Any] | None = getattr(reader, what, None)
    if of is None:
        return lambda slot: whole
    return of if place is None else lambda slot: of(int(place[slot]))
