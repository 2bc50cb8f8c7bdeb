"""Draws of single units made on a device, from the words that the host would take.

Times, captions left out and latent noise are arguments of the function that is clipped, so a
device's own rounding of them costs no privacy; that they follow from the unit alone is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sfumato.privacy.random import tensors
from sfumato.privacy.random.on_device import keys_of, way

if TYPE_CHECKING:
    from sfumato.privacy.random.keys import RunKey

_MANTISSA = (1 << 53) - 1


def words_on(
    device: torch.device,
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    names: Sequence[str],
    count: int,
) -> torch.Tensor:
    """The words of `RunKey.words_for`.

    Args:
        device: Where they are made; not the host.
        key: The run key.
        purpose: Part of the address.
        step: Part of the address.
        attempt: Part of the address.
        names: One per row.
        count: Words per row.

    Returns:
        Their bits, int64 [len(names), count].
    """
    keys, blocks = keys_of(device, key, purpose, step, attempt, names), -(-count // tensors.WORDS)
    rows = torch.arange(len(names), device=device).repeat_interleave(blocks)
    numbers = torch.arange(blocks, device=device).repeat(len(names))
    words = way(device).keystream(keys, rows, numbers)
    return words.view(len(names), blocks * tensors.WORDS)[:, :count]


def normals_on(
    device: torch.device,
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    names: Sequence[str],
    count: int,
) -> torch.Tensor:
    """Standard normals as `RunKey.normals_for`, from the same words.

    Logarithm and tangent are the device's own, so the last bits may differ: for the draws of a
    unit, which are arguments of the function that is clipped, not for noise.

    Args:
        device: Where they are made; not the host.
        key: The run key.
        purpose: Part of the address.
        step: Part of the address.
        attempt: Part of the address.
        names: One per row.
        count: Normals per row.

    Returns:
        Normals, float64 [len(names), count].
    """
    words = words_on(device, key, purpose, step, attempt, names, count + count % 2)
    pairs = ((words >> 11) & _MANTISSA).double().unflatten(1, (-1, 2))
    radius = ((pairs[..., 0] + 1.0) * 2.0**-53).log_().mul_(-2.0).sqrt_()
    half = (pairs[..., 1] * (math.pi * 2.0**-53)).tan_()
    share = 2.0 / (1.0 + half * half)
    return torch.stack((radius * (share - 1.0), radius * share * half), -1).flatten(1)[:, :count]


def uniforms_on(
    device: torch.device,
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    names: Sequence[str],
    count: int,
) -> torch.Tensor:
    """The uniforms of `RunKey.uniforms_for`, to the last bit.

    Args:
        device: Where they are made; not the host.
        key: The run key.
        purpose: Part of the address.
        step: Part of the address.
        attempt: Part of the address.
        names: One per row.
        count: Uniforms per row.

    Returns:
        In [0, 1), float64 [len(names), count].
    """
    words = words_on(device, key, purpose, step, attempt, names, count)
    return ((words >> 11) & _MANTISSA).double() * 2.0**-53
