"""Dummy data in the shapes of a plan: for checks and timing, never private."""

from __future__ import annotations

import torch

from ..bases import Base
from .objective import Batch


def dummy_batch(prepared, units: int, seed: int = 0) -> Batch:
    """A batch of random latents in the shapes of the plan, for self-checks and timing."""
    return dummy_rows(
        prepared.base, len(prepared.plan.classes), units, prepared.plan.noise_draws, seed
    )


def dummy_rows(base: Base, classes: int, units: int, draws: int, seed: int = 0) -> Batch:
    """The same of a base, before there is a plan.

    Args:
        base: Its latents and times.
        classes: How many classes there are.
        units: B.
        draws: K.
        seed: Public.
    """
    g = torch.Generator().manual_seed(seed)
    shape = (units, draws, *base.latent_shape)
    return Batch(
        mean=torch.randn(shape, generator=g),
        std=torch.full(shape, 0.1),
        label=torch.randint(0, classes, (units, draws), generator=g)[:, :1]
        .expand(-1, draws)
        .contiguous(),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.randint(0, base.times, (units, draws), generator=g),
        drop=torch.zeros(units, draws, dtype=torch.bool),
        weight=torch.ones(units, draws),
    )
