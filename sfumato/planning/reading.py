"""Private images, as a caller names them: a place, or records that were read before."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..options import Reading
from ..records import RecordSet, load_records

Source = str | Path | RecordSet


def records_of(path: Source, reading: Reading) -> RecordSet:
    """The private images, read."""
    return path if isinstance(path, RecordSet) else load_records(path, **asdict(reading))
