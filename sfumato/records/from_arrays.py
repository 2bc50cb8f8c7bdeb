"""Records that come as arrays: labels, units and captions lie beside the images as vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, SfumatoError
from . import stack, tables
from .assemble import number_units
from .build import labels_of, named, part_for, record_set
from .decode import BadImage, check_size
from .recordset import RecordSet
from .rules import refuse
from .split import array_digests


def from_arrays(
    root: Path, kind: str, found: dict[str, np.ndarray], options: dict[str, Any]
) -> RecordSet:
    """Records of arrays by name, of an npz file or an idx pair; `options` as in `load_records`."""
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
        lists["labels"], options = named(lists["labels"], names), options | {"names": names}
    known: dict[str, Any] = {"columns": tuple(sorted(set(found) - {"images", "classes"}))}
    if options["refusals"] is not None:
        flat = {name: found[name] for name in known["columns"] if found[name].shape == (n,)}
        known["table"] = {name: _vector(found, name, n, True) for name in flat}
    part = part_for(options, lists["unit"], lambda: array_digests(found["images"]))
    prints, shown, stored = found_images.prints, found_images.shown, found_images.stored
    if part is not None:
        n, rules = len(part.slots), [rules[slot] for slot in part.slots]
        lists = {what: part.of(values) for what, values in lists.items()}
        prints = None if prints is None else tuple(prints[slot] for slot in part.slots)
        shown = None if shown is None else tuple(shown[slot] for slot in part.slots)
        stored = None if stored is None else stored[part.slots]
    numbers, classes = labels_of(lists["labels"], n, options, rules)
    unit = number_units(lists["unit"], n, rules)
    known |= {"prints": prints, "shown": shown, "stored": stored}
    place, captions = None if part is None else part.slots, lists["captions"]
    source = {"array": images, "place": place}
    return record_set(
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
