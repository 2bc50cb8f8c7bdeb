"""Private images, read once and stripped: slots, labels, units, canonical pixels.

The only room that opens them.
"""

from __future__ import annotations

from .assemble import FEW
from .build import require_read_as_today
from .columns import COLUMNS, label_column
from .compare import near_copies
from .copies import NearCopies, as_csv
from .diagnosis import Diagnosis, diagnose
from .digits import bundled_digits
from .folder import would_read
from .layout import layout_of
from .layouts.choose import is_flat
from .load import load_records
from .looks import load_known
from .recordset import Facts, RecordSet
from .sheet import pairs_sheet, sheet
from .split import BOTH, Split, read_split
from .summary import Summary, describe, people_apart, sizes_of, spelling
from .survey import repeats_said

__all__ = [
    "BOTH",
    "COLUMNS",
    "FEW",
    "Diagnosis",
    "Facts",
    "NearCopies",
    "RecordSet",
    "Split",
    "Summary",
    "as_csv",
    "bundled_digits",
    "describe",
    "diagnose",
    "is_flat",
    "label_column",
    "layout_of",
    "load_known",
    "load_records",
    "near_copies",
    "pairs_sheet",
    "people_apart",
    "repeats_said",
    "require_read_as_today",
    "sheet",
    "read_split",
    "sizes_of",
    "spelling",
    "would_read",
]
