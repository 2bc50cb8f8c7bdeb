"""Z-Image (Z-Image Team, arXiv 2511.22699): one stream of picture and text, rectified flow."""

from __future__ import annotations

from .pipeline import ZImage

__all__ = ["ZImage"]
