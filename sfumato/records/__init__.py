"""Private images, read once and stripped: slots, labels, units, canonical pixels.

The only room that opens them.
"""

from __future__ import annotations

from .assemble import FEW
from .diagnosis import Diagnosis, diagnose
from .digits import bundled_digits
from .folder import is_flat, would_read
from .layout import layout_of
from .load import load_records
from .recordset import Facts, RecordSet
from .sheet import sheet
from .split import BOTH, Split, read_split
from .summary import Summary, describe, sizes_of, spelling
from .survey import repeats_said
from .tables import LABEL_COLUMNS

__all__ = [
    "BOTH",
    "FEW",
    "LABEL_COLUMNS",
    "Diagnosis",
    "Facts",
    "RecordSet",
    "Split",
    "Summary",
    "bundled_digits",
    "describe",
    "diagnose",
    "is_flat",
    "layout_of",
    "load_records",
    "repeats_said",
    "sheet",
    "read_split",
    "sizes_of",
    "spelling",
    "would_read",
]
