"""What the public base draws: the first population, and variations of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import torch

from ...bases import Base
from ...compute.device import on_host
from ...options import Sampling
from ...synthesis.sampler import Sampler, in_pieces, resolved

ALL = slice(None)
ROUND = 1 << 32  # image numbers of a round start here, so that no two candidates share a seed


def sampling_of(base: Base, seed: int) -> Sampling:
    """How candidates are drawn and varied: as `synthesize` does by default."""
    return resolved(Sampling(seed=seed), base)


def first(
    sampler: Sampler,
    of_class: int,
    classes: int,
    progress: Callable[[int], None],
    own: slice = ALL,
) -> torch.Tensor:
    """The first population, float32 [classes * of_class, C, h, w], class by class; `own` of it."""
    labels = np.repeat(np.arange(classes), of_class)
    numbers = np.arange(len(labels))[own]
    return _drawn(sampler, numbers, progress, lambda i: sampler.latents(labels[i], i))


def varied(
    sampler: Sampler,
    latents: torch.Tensor,
    labels: np.ndarray,
    strength: float,
    step: int,
    progress: Callable[[int], None],
    own: slice = ALL,
) -> torch.Tensor:
    """Variations [m, C, h, w] of latents by the base's partial noising and denoising.

    Args:
        sampler: Prompts, settings and public seed.
        latents: [m, C, h, w].
        labels: Their classes.
        strength: The share of the sampler's steps that are run.
        step: The round, which decides the seeds.
        progress: Called with the number of latents that were just varied.
        own: Which of them are varied here.
    """
    numbers = np.arange(len(latents))[own]
    if not len(numbers):
        return latents[:0]
    shift = (step + 1) * ROUND
    return _drawn(
        sampler,
        numbers,
        progress,
        lambda i: sampler.latents(labels[i], i + shift, latents[i], strength),
    )


def kept(latents: torch.Tensor) -> torch.Tensor:
    """The same in the precision in which populations are kept, so that a resume sees them alike."""
    return on_host(latents, torch.float32).half().float()


def sampler_of(base: Base, prompts: Sequence[str], seed: int) -> Sampler:
    """A sampler with these prompts, for all rounds."""
    return Sampler(base, prompts, sampling_of(base, seed))


def _drawn(
    sampler: Sampler,
    numbers: np.ndarray,
    progress: Callable[[int], None],
    work: Callable[[np.ndarray], torch.Tensor],
) -> torch.Tensor:
    parts: list[torch.Tensor] = []
    if not len(numbers):  # fewer pictures than processes
        return torch.zeros(0, *sampler.base.latent_shape)
    with closing(in_pieces(sampler, numbers, work)) as pieces:
        for part, found in pieces:
            parts.append(kept(found))
            progress(len(part))
    return torch.cat(parts)
