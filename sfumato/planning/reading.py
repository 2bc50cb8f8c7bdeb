"""Private images, as a caller names them: a place, or records that were read before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DataError, SfumatoError
from ..options import FIXED, Reading, Values
from ..records import RecordSet, is_flat, load_records

Source = str | Path | RecordSet


def records_of(path: Source, reading: Reading, **of: Any) -> RecordSet:
    """The private images, read. `of`: `part` and `split` as in `load_records`, if not the usual.

    SfumatoError for records that were read already, in another way than is said.
    """
    if not isinstance(path, RecordSet):
        return load_records(path, **reading.keywords() | of)
    require_read_so(path, reading)
    if reading.values not in (FIXED, path.values):
        raise SfumatoError(
            "--range, --window, --invert and --background belong where records are read: give them"
            " to load_records, or name the place of the images"
        )
    return path


def require_read_so(records: RecordSet, reading: Reading) -> None:
    """SfumatoError for an option that records which were read before do not follow.

    Else a unit or a split that was asked for would not be there, and nobody would notice.
    """
    differs = {
        "split": reading.split is not None,
        "unit": reading.unit not in (None, records.unit_column),
        "classes": reading.classes is not None and tuple(reading.classes) != records.classes,
        "labels": reading.labels is not None,
        "caption_column": reading.caption_column is not None,
        "unlabelled": reading.unlabelled and len(records.classes) > 1,
        "layout": reading.layout is not None,
        "objects": reading.objects is not None,
        "frames": reading.frames is not None,
    }
    for name, wrong in differs.items():
        if wrong:
            raise SfumatoError(
                f"--{name.replace('_', '-')} belongs where records are read, and these were read"
                " before: give it to load_records, or name the place of the images"
            )


def valued_as(reading: Reading, values: Values) -> Reading:
    """The reading with the values that a run declared; SfumatoError if it declares others."""
    if reading.values not in (FIXED, values):
        known = values.said or "none"
        raise SfumatoError(
            f"the run declared other stored values ({known}): leave out --range, --window, --invert"
            " and --background, which it remembers"
        )
    return replace(reading, **values.as_options())


def flat_as_one_class(path: Source, reading: Reading) -> Reading:
    """A plain folder of images is read as one class where no label column is named."""
    if isinstance(path, RecordSet) or reading.labels is not None or reading.layout is not None:
        return reading
    return replace(reading, unlabelled=True) if is_flat(Path(path)) else reading


def look_at(path: Source, reading: Reading, **of: Any) -> tuple[RecordSet, Reading, str | None]:
    """Read for looking at, and for the ledger: what `adapt` would refuse to train on is read, too.

    Args:
        path: The images.
        reading: How they are read.
        of: As in `records_of`.

    Returns:
        The records; how they were read; why `adapt` would refuse them, None if it would not.

    Raises:
        SfumatoError: Options that do not fit, or images that cannot be read in any way.
    """
    reading = flat_as_one_class(path, reading)
    try:
        return records_of(path, reading, **of), reading, None
    except DataError as error:
        refused = error
    widest = replace(reading, max_bad=1.0)
    ways = [widest]
    if reading.labels is None and reading.classes is None and reading.yes_public is False:
        ways.append(replace(widest, unlabelled=True))
    for way in ways:
        try:
            return records_of(path, way, **of), way, str(refused)
        except DataError:
            continue
    raise refused
