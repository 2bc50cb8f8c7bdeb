"""Images as the public models read them: numbers from -1 to 1, channels first."""

from __future__ import annotations

import numpy as np
import torch

from ..compute.device import on_host, to_device


def from_bytes(images: np.ndarray, where: torch.device | None = None) -> torch.Tensor:
    """uint8 [B, R, R, 3] -> float32 [B, 3, R, R] on a device; without one in host memory."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels if where is None else to_device(pixels, where)
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels: torch.Tensor) -> np.ndarray:
    """[B, 3, R, R] -> uint8 [B, R, R, 3], rounded and clamped."""
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return on_host(levels.permute(0, 2, 3, 1)).numpy()
