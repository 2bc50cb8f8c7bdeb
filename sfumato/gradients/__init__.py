"""Per-record gradients: clipped sums in one backward pass, and the slow reference they are checked
against.
"""

from __future__ import annotations

from .engine import Engine
from .memory import fitting_records, peak_bytes
from .reference import ReferenceEngine, self_check

__all__ = ["Engine", "ReferenceEngine", "fitting_records", "peak_bytes", "self_check"]
