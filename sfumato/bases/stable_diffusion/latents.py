"""Images to latents and back: public functions of one image at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...compute.device import on_host, to_device
from ...compute.precision import mixed_precision
from ..pixels import from_bytes, to_bytes


@torch.no_grad()
def encode(
    vae: Any, images: np.ndarray, precision: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the scaled latents, float32 [B, C, h, w] in host memory.

    Of images uint8 [B, R, R, 3].
    """
    pixels = from_bytes(images, vae.device)
    with mixed_precision(precision, pixels):
        posterior = vae.encode(pixels).latent_dist
    scale = vae.config.scaling_factor
    return on_host(posterior.mean.float() * scale), on_host(posterior.std.float() * scale)


@torch.no_grad()
def decode(vae: Any, latents: torch.Tensor, precision: torch.dtype = torch.float32) -> np.ndarray:
    """Scaled latents [B, C, h, w] -> uint8 images [B, R, R, 3]."""
    latents = to_device(latents, vae.device)
    with mixed_precision(precision, latents):
        pixels = vae.decode(latents / vae.config.scaling_factor).sample
    return to_bytes(pixels)
