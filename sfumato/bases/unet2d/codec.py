"""Images to what the denoiser sees, and back: pixels, a KL autoencoder's latents, or a VQ model's.

Public functions of one image at a time.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from ...compute.device import on_host, to_device
from ...compute.precision import Formats, mixed_precision
from .. import latents
from ..pixels import from_bytes, to_bytes
from ..together import few_together

# Shares of red, green and blue in the luminance of a picture without colours (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)


class Codec(Protocol):
    """Encodes and decodes."""

    def encode(self, images: np.ndarray, formats: Formats) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation [B, C, h, w], in host memory, of images uint8 [B, R, R, 3]."""
        ...

    def decode(self, latent: torch.Tensor, formats: Formats) -> np.ndarray:
        """Images uint8 [B, R, R, 3]."""
        ...


class Pixels:
    """Latents are the pixels, from -1 to 1, of three colours or of one."""

    def __init__(self, channels: int):
        self.channels = channels

    def encode(self, images: np.ndarray, formats: Formats) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixels, and a deviation of zero."""
        pixels = from_bytes(images)
        if self.channels == 1:
            share = torch.tensor(LUMINANCE).view(1, 3, 1, 1)
            pixels = (pixels * share).sum(1, keepdim=True)
        return pixels, torch.zeros_like(pixels)

    def decode(self, latent: torch.Tensor, formats: Formats) -> np.ndarray:
        """The pixels, rounded and clamped; one colour thrice."""
        return to_bytes(latent.expand(-1, 3, -1, -1))


class Posterior:
    """An AutoencoderKL, times its `scaling_factor`."""

    def __init__(self, model: Any):
        self.model = model

    def encode(self, images: np.ndarray, formats: Formats) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the posterior."""
        return latents.encode(self.model, images, formats.encode)

    def decode(self, latent: torch.Tensor, formats: Formats) -> np.ndarray:
        """The decoder's pictures."""
        return latents.decode(self.model, latent, formats.decode)


class Quantized(Posterior):
    """A VQModel: diffusion is on its latents before they are quantized (section 3.1 of LDM).

    The decoder quantizes. There is no posterior, so the deviation is zero.
    """

    @few_together
    @torch.no_grad()
    def encode(self, images: np.ndarray, formats: Formats) -> tuple[torch.Tensor, torch.Tensor]:
        """The latents, times `scaling_factor`, and a deviation of zero."""
        pixels = from_bytes(images, self.model.device)
        with mixed_precision(formats.encode, pixels):
            found = self.model.encode(pixels).latents
        mean = on_host(found.float() * self.model.config.scaling_factor)
        return mean, torch.zeros_like(mean)

    @torch.no_grad()
    def decode(self, latent: torch.Tensor, formats: Formats) -> np.ndarray:
        """The decoder's pictures, of the nearest entries of its codebook."""
        held = to_device(latent, self.model.device) / self.model.config.scaling_factor
        with mixed_precision(formats.decode, held):
            pixels = self.model.decode(held).sample
        return to_bytes(pixels)
