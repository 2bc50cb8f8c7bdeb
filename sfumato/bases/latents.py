"""Images to a KL autoencoder's latents and back: public functions of one image at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..compute.device import on_host, to_device
from ..compute.precision import Formats, mixed_precision
from ..errors import ModelError
from .pixels import from_bytes, to_bytes
from .together import few_together


@dataclass(frozen=True)
class LatentScale:
    """How a family's latents follow from its autoencoder's: (z - shift) / spread * factor.

    Public numbers of the base, never statistics of the pictures.

    Attributes:
        factor: For all numbers; `scaling_factor` in settings of diffusers.
        shift: Subtracted first: one number, or one per channel [C]; `shift_factor` or
            `latents_mean`.
        spread: Divided by, one number per channel [C]; `latents_std`. None is 1.
    """

    factor: float = 1.0
    shift: float | torch.Tensor = 0.0
    spread: torch.Tensor | None = None

    def of_mean(self, z: torch.Tensor) -> torch.Tensor:
        """Latents of the autoencoder's own, or of their mean, [B, C, ...]."""
        if isinstance(self.shift, torch.Tensor) or self.shift:
            z = z - _per_channel(self.shift, z)
        return self.of_deviation(z)

    def of_deviation(self, std: torch.Tensor) -> torch.Tensor:
        """Standard deviation of latents, of that of the autoencoder's own [B, C, ...]."""
        return (std if self.spread is None else std / _per_channel(self.spread, std)) * self.factor

    def inverse(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's own, of latents [B, C, ...]."""
        z = latents if self.spread is None else latents * _per_channel(self.spread, latents)
        z = z / self.factor
        if isinstance(self.shift, torch.Tensor) or self.shift:
            z = z + _per_channel(self.shift, z)
        return z


class AutoencoderBase:
    """A base's part of images and latents, by an AutoencoderKL.

    Attributes:
        vae: The autoencoder.
        scale: How the base's latents follow from its.
        formats: Number formats of its products.
    """

    vae: Any
    scale: LatentScale
    formats: Formats

    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the scaled latents of images uint8 [B, R, R, 3]."""
        return encode(self.vae, images, self.formats.encode, self.scale)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Images uint8 [B, R, R, 3] of scaled latents."""
        return decode(self.vae, latents, self.formats.decode, self.scale)


def latent_scale(vae: Any, *, shift: bool = False, per_channel: bool = False) -> LatentScale:
    """The scale in an autoencoder's settings, as far as the family's pipeline heeds it.

    Args:
        vae: A diffusers autoencoder.
        shift: Heed `shift_factor`, where there is one (Stable Diffusion 3, FLUX).
        per_channel: Heed `latents_mean` and `latents_std`, where there are both (SDXL). A scaling
            factor of None is then 1 (Qwen-Image).

    Raises:
        ModelError: For a factor or deviation that is not above zero, or lists of another length
            than the latents' channels.
    """
    config = vae.config
    factor = config.get("scaling_factor")
    moved: float | torch.Tensor = float(config.get("shift_factor") or 0.0) if shift else 0.0
    spread = None
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if per_channel and mean is not None and std is not None:
        moved, spread = torch.tensor(mean).float().flatten(), torch.tensor(std).float().flatten()
        channels = config.get("latent_channels", config.get("z_dim"))
        if not len(moved) == len(spread) == channels or not bool((spread > 0).all()):
            raise ModelError(
                "the autoencoder's latents_mean and latents_std are not one number, above zero for"
                " the latter, per channel: fetch the base again"
            )
    factor = 1.0 if factor is None else float(factor)
    if not 0 < factor < float("inf"):
        raise ModelError("the autoencoder's scaling_factor is no number above zero: fetch the base")
    return LatentScale(factor, moved, spread)


@few_together
@torch.no_grad()
def encode(
    vae: Any,
    images: np.ndarray,
    precision: torch.dtype = torch.float32,
    scale: LatentScale | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the scaled latents, float32 [B, C, h, w] in host memory.

    Args:
        vae: An AutoencoderKL.
        images: uint8 [B, R, R, 3].
        precision: Of its products.
        scale: Default: its `scaling_factor` alone.
    """
    scale = scale or latent_scale(vae)
    pixels = from_bytes(images, vae.device)
    with mixed_precision(precision, pixels):
        posterior = vae.encode(pixels).latent_dist
    mean, std = scale.of_mean(posterior.mean.float()), scale.of_deviation(posterior.std.float())
    return on_host(mean), on_host(std)


@torch.no_grad()
def decode(
    vae: Any,
    latents: torch.Tensor,
    precision: torch.dtype = torch.float32,
    scale: LatentScale | None = None,
) -> np.ndarray:
    """Scaled latents [B, C, h, w] -> uint8 images [B, R, R, 3]; arguments as `encode`."""
    latents = to_device(latents, vae.device)
    with mixed_precision(precision, latents):
        pixels = vae.decode((scale or latent_scale(vae)).inverse(latents)).sample
    return to_bytes(pixels)


def _per_channel(value: float | torch.Tensor, like: torch.Tensor) -> float | torch.Tensor:
    """A number, or numbers of channels as they are taken off [B, C, ...]."""
    if not isinstance(value, torch.Tensor):
        return value
    return to_device(value, like.device).view(1, -1, *[1] * (like.ndim - 2))
