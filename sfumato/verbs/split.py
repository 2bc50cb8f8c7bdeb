"""`split`: units are set apart for testing, in a private file and without a copy of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from ..errors import DataError, SfumatoError
from ..options import Reading, gather, takes
from ..planning.facts import PublicFacts, require_clear_units
from ..planning.reading import Source, look_at
from ..records import BOTH, RecordSet, Split, spelling
from ..records.split import require_new
from .keywords import ReadingFields

OUTPUT = "split.json"
SHARE = 0.2


@dataclass(frozen=True)
class SplitReport:
    """A split that was written, and what it does to the images as they are now. PRIVATE.

    Attributes:
        path: The private file.
        share: The chance of each unit to be held out.
        unit: Column of the units; None: single images.
        units: How many for training, and how many held out.
        images: The same of usable images.
        classes: Class -> the same of its units.
        remarks: One line each.
    """

    path: Path
    share: float
    unit: str | None
    units: tuple[int, int]
    images: tuple[int, int]
    classes: dict[str, tuple[int, int]]
    remarks: tuple[str, ...]


@takes(reading=Reading)
def split(
    images: Source,
    *,
    test: float = SHARE,
    output: str | Path = OUTPUT,
    allow_doubtful_units: bool = False,
    reading: Reading | None = None,
    **options: Unpack[ReadingFields],
) -> SplitReport:
    """Sets units apart for testing: `adapt` then reads the others, and `evaluate` these.

    Each unit (an image, where no column is named) is held out with chance `test`, by a hash of its
    own value under a new random key. No unit's side depends on another unit, so images that come
    later or go away move nobody. Nothing is copied, moved or charged.

    Args:
        images: The private images, as for `inspect`.
        test: Chance of each unit to be held out, above 0 and below 1.
        output: A new private file, which the other verbs take as `split`.
        allow_doubtful_units: Units whose values may be spellings of one another are different.
        reading: The options below as one object.
        options: Fields of `Reading`; `split` is not one of them here.

    Returns:
        Exact counts of both parts, for the owner's eyes.

    Raises:
        SfumatoError: A share that is none, a file that is there already, or images that cannot be
            read.
        DataError: A part would be empty, or one person could be in both.
    """
    said = {"reading": reading} if reading is not None else {}
    asked: Reading = gather({"reading": Reading}, said | options, ("test", "output"))["reading"]
    if asked.split is not None:
        raise SfumatoError("--split names a split that is there already: leave it out here")
    drawn = Split.draw(test, None)
    require_new(output)
    if isinstance(images, RecordSet):
        raise SfumatoError("split takes the place of the images, not records read before")
    records, _, _ = look_at(images, asked, part=BOTH, split=drawn)
    require_clear_units(PublicFacts.of(records), allow_doubtful_units)
    codes = records.facts.codes
    assert codes is not None  # they were read for a split
    held_out = drawn.held_out(codes)
    report = _report(records, held_out, Path(output), drawn.share)
    drawn.made_for(codes, records.unit_column).save(output)
    return report


def _report(records: RecordSet, held_out: np.ndarray, path: Path, share: float) -> SplitReport:
    """Counts both parts. DataError if one of them has no usable image."""
    parts = (records.usable & ~held_out, records.usable & held_out)
    units = _units(records, parts)
    if not all(units):
        raise DataError(
            f"all {sum(units):,} usable units would be in one part: with so few, give a"
            f" {'smaller' if units[1] else 'larger'} --test, or run it again for another draw"
        )
    classes = {
        name: _units(records, tuple(part & (records.labels == i) for part in parts))
        for i, name in enumerate(records.classes)
    }
    remarks = [
        f"class {name!r} has no {'held-out' if counts[0] else 'training'} unit"
        for name, counts in classes.items()
        if not all(counts)
    ]
    sides = [{records.fingerprints[i] for i in np.flatnonzero(part)} for part in parts]
    if both := len(sides[0] & sides[1]):
        remarks.append(
            f"{both:,} pictures are in both parts, under other bytes or other units; `evaluate`"
            " leaves them out of the test: give copies of one picture the same unit"
        )
    images = (int(parts[0].sum()), int(parts[1].sum()))
    found = (*remarks, *spelling(records))
    return SplitReport(path, share, records.unit_column, units, images, classes, found)


def _units(records: RecordSet, parts: tuple[np.ndarray, ...]) -> tuple[int, int]:
    train, test = (len(np.unique(records.unit[part])) for part in parts)
    return train, test
