"""Per-record gradients: clipped sums in one backward pass, and the reference that checks them."""

from __future__ import annotations

from .engine import Engine
from .memory import fitting_records
from .reference import ReferenceEngine, self_check

__all__ = ["Engine", "ReferenceEngine", "fitting_records", "self_check"]
