"""Gradients of a base on public images, which cost nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..bases import Base
from ..bases.conditioning import concatenate, rows
from ..compute.device import on_host
from ..compute.precision import Stage
from ..gradients.scores import gradient_squares
from ..options import Recipe
from ..training import Batch, LatentData, build_latents, denoising_losses
from .given import PublicImages
from .prompts import choose_prompts

PUBLIC_IMAGES = 2048  # of public images as many are looked at; more would not change the ranking


def plain_losses(
    base: Base, prompts: Sequence[str], precision: Stage | torch.dtype
) -> Callable[[Batch], torch.Tensor]:
    """The base's own training objective with fixed prompts, one per label.

    Label -1 is the empty prompt.
    """
    table = concatenate([base.condition(list(prompts)), base.condition([""])])
    return denoising_losses(base, lambda label: rows(table, label), precision)


@dataclass(frozen=True)
class PublicLook:
    """Gradients of public images with respect to each matrix.

    `squares` [n, matrices] per image, and `gradients`, their mean; both in host memory.
    """

    squares: torch.Tensor
    gradients: dict[str, torch.Tensor]

    @property
    def sizes(self) -> dict[str, int]:
        """Matrix -> its number of entries."""
        return {name: gradient.numel() for name, gradient in self.gradients.items()}


def look_at_public(
    base: Base,
    records: PublicImages,
    matrices: Sequence[str],
    *,
    prompt=None,
    draws: int = 4,
    seed: int = 0,
) -> PublicLook:
    """Gradients of the base on at most 2,048 public images, with class names as prompts.

    The public seed chooses the images.

    Args:
        base: The base.
        records: The images; they are not charged.
        matrices: Full names.
        prompt: The prompt in place of the class name's.
        draws: Draws of noise and time for each image.
        seed: The public seed.
    """
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    use = np.flatnonzero(records.usable)
    use = np.sort(rng.permutation(use)[:PUBLIC_IMAGES])
    prompts = choose_prompts(
        base, records.classes, prompt=prompt if isinstance(prompt, str) else None, embedder=False
    )
    losses = plain_losses(base, prompts.prompts, torch.float32)
    weights = {name: base.denoiser.get_parameter(f"{name}.weight") for name in matrices}
    squares, totals = [], {name: torch.zeros_like(w) for name, w in weights.items()}
    with tempfile.TemporaryDirectory() as folder:
        data = build_latents(
            Path(folder), len(use), lambda slots: records.load(use[slots], base.resolution),
            base.encode, records.labels[use], np.arange(len(use)),
        )  # fmt: skip
        for begin in range(0, len(use), 64):
            part = public_batch(
                data, np.arange(begin, min(begin + 64, len(use))), draws, base.times, g
            )
            found = gradient_squares(base.denoiser, weights, losses, part, draws=draws)
            squares.extend(map(on_host, found))
            for p in weights.values():
                p.requires_grad_(True)
            grads = torch.autograd.grad(losses(part).sum() / draws, list(weights.values()))
            for p, total, grad in zip(weights.values(), totals.values(), grads):
                p.requires_grad_(False)
                total += grad
    gradients = {n: on_host(t) / len(use) for n, t in totals.items()}
    return PublicLook(torch.cat(squares), gradients)


def public_batch(
    data: LatentData, slots: np.ndarray, draws: int, times: int, g: torch.Generator
) -> Batch:
    """`draws` draws of each image from a public generator.

    Diffusion times as in training's default recipe.
    """
    shape = (len(slots), draws, *data.latent_shape)
    label = torch.from_numpy(data.label[slots])[:, None].expand(-1, draws)
    time = times * torch.rand(shape[:2], generator=g) ** (1 / Recipe().time_bias)
    mean, std = (
        torch.from_numpy(np.asarray(a[slots], np.float32))[:, None].expand(shape)
        for a in (data.mean, data.std)
    )
    return Batch(
        mean,
        std,
        label,
        torch.randn(shape, generator=g),
        torch.randn(shape, generator=g),
        time.long().clamp(max=times - 1),
        torch.zeros(shape[:2], dtype=torch.bool),
        torch.ones(shape[:2]),
    )
