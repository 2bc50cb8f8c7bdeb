"""load_records: one path in, one RecordSet out, whatever the layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MachineError, SfumatoError
from ..options import FIXED, Values
from . import arrays, folder, parquet, stack, tables
from .assemble import (
    apart_from_few,
    class_list,
    facts_of,
    index_files,
    judge,
    number_labels,
    number_units,
)
from .bounded import rehearse
from .decode import BadImage, check_size
from .recordset import RecordSet
from .rules import refuse
from .split import BOTH, PARTS, Part, Split, array_digests, file_digests, part_of, read_split

UNLABELLED = "image"
FOLDER = "folder"  # as --unit: the folder that an image lies in


def load_records(
    path: str | Path,
    *,
    labels: str | None = None,
    caption_column: str | None = None,
    unit: str | None = None,
    classes: Sequence[str] | None = None,
    max_bad: float = 0.01,
    part: str = "train",
    unlabelled: bool = False,
    yes_public: bool | Sequence[str] = False,
    values: Values = FIXED,
    refusals: list[str] | None = None,
    split: str | Path | Split | None = None,
) -> RecordSet:
    """Indexes private images and returns their RecordSet.

    Every image is decoded once, by fixed rules. Raises SfumatoError for any bad input.

    Args:
        path: Class folders, a folder with metadata.csv or .jsonl (or that table itself), parquet,
            idx
            pairs or npz.
        labels: Column (or npz array) of the labels; default: the first of label, class.
        caption_column: Column of the captions.
        unit: Column of the privacy unit. An npz array called `unit` is used without being named.
        classes: The public class list; other labels become zero slots. Without it the list is read
            off
            the data (labels, folders, or names that come with the file), and its classes of few
            units
            are kept apart (`RecordSet.few`).
        max_bad: The largest share of bad records.
        part: "train" or "test", of a `split`, or of a source that has splits of its own; ignored
            for others.
        unlabelled: All records get the one class "image".
        yes_public: Declares the found list as it is; as a list of names it must be the found one,
            word
            for word.
        values: Stored values of black and white, as declared; default: by the type of each file.
        refusals: For looking at a set: where it would be refused, the reason is added here and
            reading goes on, without what does not fit. Such records are not for training.
        split: A file of `sfumato split`, or what is in it: only its `part` is read, as if the
            source held nothing else. Gives the unit, if none is named.
    """
    root = Path(path)
    if not 0 <= max_bad <= 1:
        raise SfumatoError("--max-bad must be a share of the records: give a number from 0 to 1")
    if part not in PARTS and not (part == BOTH and isinstance(split, Split)):
        raise SfumatoError(f"part {part!r}: choose 'train' or 'test'")
    if unlabelled and labels is not None:
        raise SfumatoError("--labels and --unlabelled exclude each other: give one of them")
    if not isinstance(yes_public, bool) and classes is not None:
        raise SfumatoError(
            "classes declares a list, names in yes_public accept the one found: give one of them"
        )
    if not root.exists():
        raise SfumatoError(f"no such file or folder: {str(path)!r}")
    held = None if split is None else read_split(split)
    options = {
        "labels": labels,
        "captions": caption_column,
        "unit": unit if unit is not None or held is None else held.unit,
        "classes": classes,
        "max_bad": max_bad,
        "unlabelled": unlabelled,
        "yes_public": yes_public,
        "values": values,
        "refusals": refusals,
        "split": held,
        "part": part,
    }
    try:
        return _load(root, part if held is None else "train", options)
    except PermissionError as error:
        raise MachineError(f"no permission to read {str(error.filename or path)!r}") from None


def _load(root: Path, split: str, options: dict[str, Any]) -> RecordSet:
    if root.is_file() and root.suffix.lower() in (".csv", ".jsonl"):
        return _from_table(root, root, split, options)
    if root.suffix.lower() == ".npz" and root.is_file():
        found = arrays.read_npz(root, split)
        return _from_arrays(root, "npz", found, options)
    pair = arrays.find_idx(root, split)
    if pair:
        found = {"images": arrays.read_idx(pair[0]), "labels": arrays.read_idx(pair[1])}
        return _from_arrays(root, "idx", found, options)
    files = parquet.find_parquet(root, split)
    if files:
        return _from_parquet(root, files, options)
    if root.is_file():
        raise DataError(
            f"{root.name!r} is not a csv, jsonl, parquet, idx or npz file: "
            "give one of these, or a folder (unpack archives first)"
        )
    return _from_folder(root, split, options)


def _from_folder(root: Path, split: str, options: dict[str, Any]) -> RecordSet:
    table = tables.find_table(root)
    if table is None:
        inner = folder.split_folder(root, split)
        table = tables.find_table(inner)
        if table is None:
            return _from_class_folders(root, inner, options)
    return _from_table(root, table, split, options)


def _from_class_folders(root: Path, inner: Path, options: dict[str, Any]) -> RecordSet:
    by_folder = options["unit"] == FOLDER
    for what, flag in (("labels", "--labels"), ("captions", "--captions"), ("unit", "--unit")):
        if options[what] is not None and not (what == "unit" and by_folder):
            message = (
                f"no column {options[what]!r} for {flag}: class folders have no columns; "
                f"add metadata.csv with file_name and {options[what]}"
            )
            if options["refusals"] is None:
                raise SfumatoError(message)
            options["refusals"].append(message)
            options = options | {what: None}
    if options["unlabelled"]:
        ignored = Counter()
        names, labels = folder.walk(inner, ignored), None
    else:
        names, labels, ignored = folder.class_folders(inner, options["refusals"])
    reader = folder.FileReader(inner, tuple(names))
    units = folder.units_of(names, 0 if labels is None else 1) if by_folder else None
    return _from_files(
        root, "folder", reader, len(names), labels, units, None, options, ignored=ignored
    )


def _from_table(root: Path, table: Path, split: str, options: dict[str, Any]) -> RecordSet:
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
    listed = _columns(rows, columns, options)
    if listed["labels"] is None and not options["unlabelled"]:
        parts = [
            [p for p in name.split("/")[:-1] if p not in folder.SPLITS and p != "."]
            for name in names
        ]
        if not names or not all(parts):
            refuse(
                f"{table.name} has no column label or class: name one with --labels, or use"
                " --unlabelled",
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
    return _from_files(
        root,
        "table",
        reader,
        len(rows),
        listed["labels"],
        listed["unit"],
        listed["captions"],
        options,
        ignored=ignored,
        columns=columns,
        table=_values_of(rows, columns, options),
    )


def _first_part(row: dict[str, Any]) -> str | None:
    name = row.get("file_name") or ""
    return name.removeprefix("./").split("/")[0] if "/" in name else None


def _is_split(base: Path, part: str | None) -> bool:
    return part is not None and part.lower() in folder.SPLITS and (base / part).is_dir()


def _columns(
    rows: list[dict[str, Any]], columns: tuple[str, ...], options: dict[str, Any]
) -> dict[str, Any]:
    flags = {"labels": "--labels", "captions": "--captions", "unit": "--unit"}
    chosen = {what: options[what] for what in flags}
    if chosen["labels"] is None and not options["unlabelled"]:
        chosen["labels"] = next((name for name in tables.LABEL_COLUMNS if name in columns), None)
    found: dict[str, Any] = {}
    for what, name in chosen.items():
        try:
            found[what] = None if name is None else tables.column(rows, columns, name, flags[what])
        except SfumatoError as error:
            if options["refusals"] is None:
                raise
            options["refusals"].append(str(error))
            found[what] = None
    return found


def _from_parquet(root: Path, files: list[Path], options: dict[str, Any]) -> RecordSet:
    rehearse(files, parquet=True)
    image, rows, columns, names = parquet.read_columns(files)
    rows = [{key: tables.cell_text(value) for key, value in row.items()} for row in rows]
    listed = _columns(rows, columns, options)
    if listed["labels"] is None and not options["unlabelled"]:
        refuse(
            "the parquet file has no column label or class: name one with --labels, or use"
            " --unlabelled",
            options["refusals"],
        )
        options = options | {"unlabelled": True, "classes": None}
    label_column = options["labels"] or next(
        (name for name in tables.LABEL_COLUMNS if name in columns), None
    )
    if label_column in names and listed["labels"] is not None:
        listed["labels"] = _named(listed["labels"], names[label_column])
        options = options | {"names": names[label_column]}
    reader = parquet.ParquetImages(files, image)
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


def _named(numbers: Sequence[str | None], names: Sequence[Any]) -> list[str | None]:
    # datasets writes -1 for a label that is not known; a number beyond the names stays and meets
    # the class-list rule
    known = {str(i): str(name) for i, name in enumerate(names)}
    return [None if number in (None, "-1") else known.get(number, number) for number in numbers]


def _from_files(
    root, kind, reader, n, labels, units, captions, options, *, ignored=None, columns=(), table=None
) -> RecordSet:
    part = _part(options, units, lambda: file_digests(reader, n))
    if part is not None:
        n, labels, units, captions = len(part.slots), *map(part.of, (labels, units, captions))
    rules: list[str | None] = [None] * n
    numbers, classes = _labels(labels, n, options, rules)
    unit = number_units(units, n, rules)
    place = None if part is None else part.slots
    read = reader if place is None else lambda slot: reader(int(place[slot]))
    known = index_files(read, rules, options["values"])
    known |= {"ignored": ignored or {}, "columns": columns, "table": table or {}}
    source = {"read": reader, "place": place}
    return _record_set(
        root, kind, options, numbers, classes, unit, captions, rules, known, part, **source
    )


def _part(options: dict[str, Any], units, images: Callable[[], Sequence[bytes]]) -> Part | None:
    """The slots that the split leaves; None without one."""
    if options["split"] is None:
        return None
    return part_of(options["split"], options["part"], options["unit"], units, images)


def _record_set(
    root, kind, options, numbers, classes, unit, captions, rules, known, part, **source
) -> RecordSet:
    usable, bad = judge(rules, options["max_bad"], classes, options["refusals"])
    known["rules"] = tuple(rules)
    found, few = options["classes"] is None and not options["unlabelled"], {}
    confirmed = found and _confirmed(options["yes_public"], classes)
    if found and not confirmed:
        numbers, classes, few = apart_from_few(numbers, classes, unit.number, usable)
    known |= {"units": unit.prints, "respelt": unit.respelt, "doubtful": unit.doubtful}
    return RecordSet(
        source=str(root),
        kind=kind,
        classes=classes,
        labels=numbers,
        unit=unit.number,
        unit_column=None if unit.prints is None else options["unit"],
        classes_found=found,
        confirmed=confirmed,
        few=few,
        usable=usable,
        captions=None if captions is None else tuple(caption or "" for caption in captions),
        facts=facts_of(bad, codes=None if part is None else part.codes, **known),
        values=options["values"],
        held_out=None if options["split"] is None else options["split"].share,
        **source,
    )


def _confirmed(said: bool | Sequence[str], classes: tuple[str, ...]) -> bool:
    """Whether the owner has declared the found list.

    SfumatoError if the names given are not the ones found, word for word.
    """
    if isinstance(said, bool):
        return said
    if sorted(said) != sorted(classes):
        raise SfumatoError(
            "the classes in yes_public are not those found, word for word: declare your own list"
            " with --classes"
        )
    return True


def _labels(
    labels, n: int, options: dict[str, Any], rules: list[str | None]
) -> tuple[np.ndarray, tuple[str, ...]]:
    if options["unlabelled"]:
        classes = (
            (UNLABELLED,) if options["classes"] is None else class_list((), options["classes"])
        )
        if len(classes) != 1:
            raise SfumatoError(
                "--unlabelled takes at most one class: leave --classes out, or name one"
            )
        return np.zeros(n, np.int64), classes
    if n == 0:
        judge([], 1, (UNLABELLED,))
    # Names that come with a file are found like those of folders: whoever made the file had the
    # data before them.
    try:
        classes = class_list(
            labels, options.get("names") if options["classes"] is None else options["classes"]
        )
    except DataError as error:
        refuse(str(error), options["refusals"])
        return np.zeros(n, np.int64), (UNLABELLED,)
    return number_labels(labels, classes, rules), classes


def _from_arrays(
    root: Path, kind: str, found: dict[str, np.ndarray], options: dict[str, Any]
) -> RecordSet:
    if options["unit"] is None and "unit" in found:
        options = options | {"unit": "unit"}
    if options["refusals"] is not None:
        options = _as_far_as_it_goes(found, options)
    found_images = stack.canonical(found["images"], options["values"])
    images, rules = found_images.pixels, found_images.rules
    n = len(images)
    if n:
        try:
            check_size(images.shape[2], images.shape[1])
        except BadImage as bad:
            raise DataError(
                f"images of {images.shape[2]}x{images.shape[1]} pixels are not accepted: {bad.rule}"
            ) from None
    lists = {
        what: _vector(found, options[what] or name, n, options[what] is not None)
        for what, name in (("labels", "labels"), ("unit", None), ("captions", None))
    }
    if lists["labels"] is None and not options["unlabelled"]:
        refuse(
            "there is no array `labels` beside the images: add one, name it with --labels, or use"
            " --unlabelled",
            options["refusals"],
        )
        options = options | {"unlabelled": True, "classes": None}
    if (
        lists["labels"] is not None
        and "classes" in found
        and not options["unlabelled"]
        and found[options["labels"] or "labels"].dtype.kind in "iuf"
    ):
        names = found["classes"].reshape(-1).tolist()
        lists["labels"], options = _named(lists["labels"], names), options | {"names": names}
    known: dict[str, Any] = {"columns": tuple(sorted(set(found) - {"images", "classes"}))}
    if options["refusals"] is not None:
        flat = {name: found[name] for name in known["columns"] if found[name].shape == (n,)}
        known["table"] = {name: _vector(found, name, n, True) for name in flat}
    part = _part(options, lists["unit"], lambda: array_digests(found["images"]))
    prints, stored = found_images.prints, found_images.stored
    if part is not None:
        n, rules = len(part.slots), [rules[slot] for slot in part.slots]
        lists = {what: part.of(values) for what, values in lists.items()}
        prints = None if prints is None else tuple(prints[slot] for slot in part.slots)
        stored = None if stored is None else stored[part.slots]
    numbers, classes = _labels(lists["labels"], n, options, rules)
    unit = number_units(lists["unit"], n, rules)
    known |= {"prints": prints, "stored": stored}
    place, captions = None if part is None else part.slots, lists["captions"]
    source = {"array": images, "place": place}
    return _record_set(
        root, kind, options, numbers, classes, unit, captions, rules, known, part, **source
    )


def _as_far_as_it_goes(found: dict[str, np.ndarray], options: dict[str, Any]) -> dict[str, Any]:
    """Options that somebody who only looks can go on with; why others cannot is noted."""
    images, refusals = found["images"], options["refusals"]
    try:
        stack.canonical(images[:0], options["values"])
    except DataError as error:
        if images.dtype.kind not in "iu" or options["values"].low is not None or not images.size:
            raise
        refusals.append(str(error))
        low, high = float(images.min()), float(images.max())
        options = options | {"values": replace(options["values"], low=low, high=max(high, low + 1))}
    for what, name in (("labels", "labels"), ("unit", None), ("captions", None)):
        try:
            _vector(found, options[what] or name, len(images), options[what] is not None)
        except SfumatoError as error:
            refusals.append(str(error))
            found.pop(options[what] or name or "", None)
            alone = {"unlabelled": True, "classes": None} if what == "labels" else {}
            options = options | {what: None} | alone
    return options


def _vector(
    found: dict[str, np.ndarray], name: str | None, n: int, asked: bool
) -> list[str | None] | None:
    if name is None or (name not in found and not asked):
        return None
    if name not in found:
        raise SfumatoError(
            f"no array {name!r} beside the images: there are {', '.join(sorted(found))}"
        )
    if found[name].size != n and found[name].shape[:1] == (n,):
        raise DataError(
            f"array {name!r} holds several labels for each image"
            f" ({found[name].size // max(n, 1)}), and an image has one class here: save one label"
            " each, or take one of them as `labels`"
        )
    if found[name].size != n:
        raise DataError(
            f"array {name!r} has {found[name].size} entries for {n} images: give one per image"
        )
    values = found[name].reshape(-1)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return [tables.cell_text(value) for value in values.tolist()]
