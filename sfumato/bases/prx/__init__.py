"""PRX (Photoroom): attention of pictures to themselves and to text, rectified flow."""

from __future__ import annotations

from .pipeline import PRX

__all__ = ["PRX"]
