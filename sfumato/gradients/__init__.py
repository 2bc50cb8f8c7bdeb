"""Per-record gradients: clipped sums in one backward pass, and the reference that checks them."""

from __future__ import annotations

from .calibrate import measure_ratios
from .cost import Ratios
from .engine import Engine
from .memory import fitting_records
from .reach import unreached
from .reference import ReferenceEngine
from .selfcheck import self_check

__all__ = [
    "Engine",
    "Ratios",
    "ReferenceEngine",
    "fitting_records",
    "measure_ratios",
    "self_check",
    "unreached",
]
