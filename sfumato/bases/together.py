"""How many pictures pass an autoencoder together: a public matter of their size alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch

Latents = tuple[torch.Tensor, torch.Tensor]
# 256 of 32 x 32, four of 256 x 256, and one from 512 x 512 on. Sixty-four of 256 x 256 together
# took the first convolutions of a published autoencoder 10 GB.
PIXELS = 2**18


def pictures_together(width: int, height: int) -> int:
    """How many pictures of this size, at least one."""
    return max(1, PIXELS // (width * height))


def few_together(encode: Callable[..., Latents]) -> Callable[..., Latents]:
    """An encoder (owner, images uint8 [B, H, W, 3], ...) that takes so many images at a time.

    They are cut in their order, so that no picture's content decides who is beside it.
    """

    @wraps(encode)
    def in_turns(owner: Any, images: np.ndarray, *args: Any, **options: Any) -> Latents:
        few = pictures_together(images.shape[2], images.shape[1])
        if len(images) <= few:
            return encode(owner, images, *args, **options)
        parts = [
            encode(owner, images[start : start + few], *args, **options)
            for start in range(0, len(images), few)
        ]
        mean, deviation = (torch.cat(part) for part in zip(*parts))
        return mean, deviation

    return in_turns
