"""DiT (Peebles and Xie, arXiv 2212.09748): a transformer on latents, told a class."""

from __future__ import annotations

from .pipeline import DiT

__all__ = ["DiT"]
