"""Dummy data in the shapes of a plan: for checks and timing, never private."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from ..bases import Base, caption_base
from .objective import READ, Batch
from .texts import Texts, read_alone

# read as captions are: usual, empty, of another language, broken, longer than any encoder reads
MADE_UP = ("a picture", "", "\u5c0f\u9ce5", "\ud800\0 {b}", "made up " * 400)


def made_up_texts(base: Base, images: int, seed: int = 0) -> Texts:
    """Captions of so many images that do not exist: none, one or two of `MADE_UP` each.

    Args:
        base: Reads captions.
        images: How many.
        seed: Public.
    """
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 3, images)
    count[:1] = 2  # the first has some, whatever is drawn
    if base.made_up is None:
        base.made_up = read_alone(caption_base(base).condition_of_captions, MADE_UP)
    first = np.concatenate([[0], np.cumsum(count)])
    # the last row is none
    which = np.append(rng.integers(0, len(MADE_UP), int(first[-1])), -1)
    return Texts({name: rows[which] for name, rows in base.made_up.items()}, first)


def caption_bytes(base: Base) -> int:
    """Bytes that a caption takes on disk, whatever it says."""
    return sum(rows[0].nbytes for rows in made_up_texts(base, 1).told.values())


def caption_seconds(base: Base) -> float:
    """Seconds to read a caption."""
    started = time.perf_counter()
    read_alone(caption_base(base).condition_of_captions, MADE_UP)
    return (time.perf_counter() - started) / len(MADE_UP)


def dummy_batch(prepared, units: int, seed: int = 0) -> Batch:
    """A batch of random latents in the shapes of the plan, for self-checks and timing.

    With made-up captions where captions train.
    """
    plan, base = prepared.plan, prepared.base
    made = dummy_rows(base, len(plan.classes), units, plan.noise_draws, seed)
    if not getattr(plan, "captions", None):
        return made
    texts, rng = made_up_texts(base, units, seed), np.random.default_rng(seed)
    image = np.repeat(np.arange(units)[:, None], plan.noise_draws, axis=1)
    return replace(made, **dict(zip(READ, texts.drawn(image, rng.random(image.shape)))))


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
