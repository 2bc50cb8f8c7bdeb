"""Dummy data in the shapes of a plan: for checks and timing, never private."""

from __future__ import annotations

import torch

from .objective import Batch


def dummy_batch(prepared, units: int, seed: int = 0) -> Batch:
    """A batch of random latents in the shapes of the plan, for self-checks and timing."""
    g = torch.Generator().manual_seed(seed)
    k = prepared.plan.noise_draws
    shape = (units, k, *prepared.base.latent_shape)
    return Batch(
        mean=torch.randn(shape, generator=g),
        std=torch.full(shape, 0.1),
        label=torch.randint(0, len(prepared.plan.classes), (units, k), generator=g)[:, :1]
        .expand(-1, k)
        .contiguous(),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.randint(0, prepared.base.times, (units, k), generator=g),
        drop=torch.zeros(units, k, dtype=torch.bool),
        weight=torch.ones(units, k),
    )
