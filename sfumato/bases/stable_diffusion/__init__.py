"""Stable Diffusion 1.x and 2.x (Rombach et al., arXiv 2112.10752): a U-Net on an autoencoder's
latents, told what to draw by CLIP's text encoder.
"""

from __future__ import annotations

from .pipeline import StableDiffusion, around

__all__ = ["StableDiffusion", "around"]
