"""Per-record gradients: clipped sums in one backward pass, and the slow reference they are checked against."""

from __future__ import annotations

from .engine import Engine
from .reference import ReferenceEngine, self_check

__all__ = ["Engine", "ReferenceEngine", "self_check"]
