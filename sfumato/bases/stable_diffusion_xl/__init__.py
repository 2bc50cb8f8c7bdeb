"""Stable Diffusion XL (Podell et al., arXiv 2307.01952).

A larger U-Net that is told by two text encoders side by side, by a pooled text, and by the sizes of
its training pictures.
"""

from __future__ import annotations

from .pipeline import StableDiffusionXL

__all__ = ["StableDiffusionXL"]
