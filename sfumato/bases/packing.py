"""Latents as transformers of the FLUX kind read them: one token for each 2x2 patch."""

from __future__ import annotations

import torch


def patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents [B, C, h, w] -> [B, 4C, h/2, w/2], the numbers of a patch beside each other."""
    return torch.nn.functional.pixel_unshuffle(latents, 2)


def unpatched(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of `patches`."""
    return torch.nn.functional.pixel_shuffle(packed, 2)


def as_tokens(maps: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, h, w] -> tokens [B, h*w, C], row by row."""
    return maps.flatten(2).transpose(1, 2)


def as_maps(read: torch.Tensor, height: int) -> torch.Tensor:
    """The inverse of `as_tokens`."""
    return read.transpose(1, 2).unflatten(2, (height, -1))


def places(height: int, width: int, length: int, where: torch.device) -> torch.Tensor:
    """Place numbers of tokens, float32 [height*width, length]: row and column in 1 and 2.

    The other columns are zero.
    """
    found = torch.zeros(height, width, length, device=where)
    found[..., 1] = torch.arange(height, device=where)[:, None]
    found[..., 2] = torch.arange(width, device=where)
    return found.flatten(0, 1)
