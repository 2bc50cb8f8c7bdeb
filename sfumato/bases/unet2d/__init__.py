"""Diffusion by diffusers' UNet2DModel: on pixels or latents, told nothing or a class.

DDPM (Ho et al., arXiv 2006.11239), DDIM (Song et al., 2010.02502), latent diffusion (Rombach et
al., 2112.10752), and DPDM (Dockhorn et al., 2210.09929) in private training.
"""

from __future__ import annotations

from .classes import ClassLatentUNet, ClassPixelUNet
from .pipeline import LatentUNet, PixelUNet

__all__ = ["ClassLatentUNet", "ClassPixelUNet", "LatentUNet", "PixelUNet"]
