"""Lumina-Image 2.0 (Qin et al., arXiv 2503.21758): one stream of text and picture."""

from __future__ import annotations

from .pipeline import Lumina2

__all__ = ["Lumina2"]
