"""Stable Diffusion 3 and 3.5 (Esser et al., arXiv 2403.03206): two streams, rectified flow."""

from __future__ import annotations

from .pipeline import StableDiffusion3

__all__ = ["StableDiffusion3"]
