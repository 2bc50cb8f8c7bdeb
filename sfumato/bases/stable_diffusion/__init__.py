"""Stable Diffusion 1.x and 2.x (Rombach et al., arXiv 2112.10752).

A U-Net on an autoencoder's latents, conditioned on prompts by CLIP's text encoder.
"""

from __future__ import annotations

from .pipeline import StableDiffusion, around

__all__ = ["StableDiffusion", "around"]
