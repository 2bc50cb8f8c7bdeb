"""The non-private control: the same recipe without clipping and without noise.

Its result never leaves the run folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..options import Recipe
from .checkpoint import State
from .data import LatentData, each_alone
from .objective import READ, Batch, Trainable


def train_without_privacy(
    adaptation: Trainable,
    data: LatentData,
    *,
    recipe: Recipe,
    state: State,
    steps: int,
    batch: int,
    draws: int,
    micro_batch: int,
    seed: int,
) -> None:
    """Ordinary Adam on the mean loss over random units.

    As many steps, units and draws as the private run. An upper row for internal comparison only:
    its weights protect nobody.

    Args:
        adaptation: Base, trainable tensors and row losses.
        data: The private latents.
        recipe: As in the private run.
        state: Advanced to `steps`.
        steps: As in the private run.
        batch: Units per step.
        draws: Draws per unit.
        micro_batch: The most units per backward pass.
        seed: Of everything random.
    """
    assert recipe.ema_decay is not None  # decided when the run was prepared
    g = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        units = rng.choice(data.n_units, batch, replace=False)
        grads = {
            name: torch.zeros_like(p, dtype=torch.float32)
            for name, p in adaptation.trainable.items()
        }
        for start in range(0, batch, micro_batch):
            some, times = units[start : start + micro_batch], adaptation.base.times
            for part in _draw(data, some, draws, times, recipe, rng, g):
                with torch.enable_grad():
                    loss = adaptation.row_losses(part).sum() / (batch * draws)
                    found = torch.autograd.grad(
                        loss, list(adaptation.trainable.values()), allow_unused=True
                    )
                for name, grad in zip(grads, found):
                    if grad is not None:
                        grads[name] += grad.float()
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.rate_at(state.step, steps) * group["factor"]
        for name, parameter in adaptation.trainable.items():
            parameter.grad = grads[name].to(parameter.dtype)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.update_average(recipe.ema_decay)


def _draw(
    data: LatentData, units, draws: int, times: int, recipe: Recipe, rng, g: torch.Generator
) -> tuple[Batch, ...]:
    owned = (data.first[units + 1] - data.first[units])[:, None]
    uniform = rng.random((len(units), draws))
    place = data.first[units][:, None] + (uniform * owned).astype(np.int64)
    if data.buckets is not None:
        place = data.buckets.together(place, uniform)
    image = data.order[place]
    u = (np.arange(draws) + rng.random((len(units), 1))) / draws
    shape = (len(units), draws, *data.latent_shape)
    label = data.label[image]
    read: dict[str, Any] = {}
    if data.texts is not None:
        read = dict(zip(READ, data.texts.drawn(image, rng.random(image.shape))))
    made = Batch(
        mean=torch.from_numpy(data.mean[image].astype(np.float32)),
        std=torch.from_numpy(data.std[image].astype(np.float32)),
        label=torch.from_numpy(np.maximum(label, 0)),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.from_numpy(
            (times * u ** (1 / recipe.time_bias)).astype(np.int64).clip(0, times - 1)
        ),
        drop=torch.from_numpy(rng.random((len(units), draws)) < recipe.caption_dropout),
        weight=torch.from_numpy((label >= 0).astype(np.float32)),
        **read,
    )
    if data.buckets is None:
        return (made,)
    return each_alone(made, data.buckets, data.buckets.image[image[:, 0]])
