"""Images as the public models read them: numbers from -1 to 1, channels first."""

from __future__ import annotations

import numpy as np
import torch


def from_bytes(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, R, R, 3] -> float32 [B, 3, R, R]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels: torch.Tensor) -> np.ndarray:
    """[B, 3, R, R] -> uint8 [B, R, R, 3], rounded and clamped."""
    return (
        ((pixels.float() + 1) * 127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .numpy()
    )
