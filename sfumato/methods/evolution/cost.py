"""The size of an evolution, and what it takes: from public numbers and dummy pictures."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from ...compute.device import held_bytes
from ...privacy.accounting import gaussian_mu
from ..interface import Prepared, Work
from .adaptation import Evolving
from .drawing import first, sampler_of, varied
from .spaces import ROWS, of_candidates
from .voting import CHUNK, nearest

ROUNDS = 6
MOST, LEAST = 2000, 4  # candidates in all, and of one class
VOTES = 1.5  # of a candidate on average, in standard deviations of the noise
DRAWN = 32  # candidates that are timed
KEPT = 3  # checkpoints, one that is being written included


def candidates_for(n_units: int, classes: int, rounds: int, epsilon: float, delta: float) -> int:
    """Candidates of a round, all classes together, so that votes stand out of the noise.

    From the public number of units and the promise alone.
    """
    sigma = math.sqrt(rounds) / gaussian_mu(epsilon, delta)
    of_class = min(MOST, n_units / (VOTES * sigma)) / classes
    return classes * max(LEAST, int(of_class))


def estimate(prepared: Prepared[Evolving]) -> Work:
    """Seconds of all rounds on this machine, from a few dummy rows, and the memory in use."""
    plan, adapted = prepared.plan, prepared.adaptation
    voting = plan.voting
    assert voting is not None  # an evolution's plan has one
    sampler = sampler_of(adapted.base, plan.prompts, 0)
    few = min(DRAWN, voting.candidates)

    def timed(work) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    def nothing(more: int) -> None:
        pass

    drawn = first(sampler, 1, 1, nothing).expand(few, -1, -1, -1)
    labels = np.zeros(few, np.int64)
    pass_ = timed(lambda: varied(sampler, drawn, labels, 1.0, 0, nothing)) / few
    looked = timed(lambda: of_candidates(adapted.base, adapted.space, drawn)) / few
    table = of_candidates(adapted.base, adapted.space, drawn[:1])
    rows = min(CHUNK, plan.n_units)
    features = np.zeros((rows, table.shape[1]), np.float32)
    wide = np.repeat(table, voting.candidates, 0)
    marks, order = np.zeros(rows, np.int64), np.arange(rows)
    votes = timed(lambda: nearest(voting, features, marks, order, wide)) / rows
    strengths = sum(adapted.strength(step, plan.steps) for step in range(plan.steps))
    seconds = voting.candidates * (pass_ * (1 + strengths) + looked * plan.steps)
    seconds += plan.n_units * (votes * plan.steps + looked * (adapted.space.name != "latents"))
    return Work(seconds, held_bytes(adapted.base.device) + 4 * ROWS * table.shape[1])


def scratch_bytes(prepared: Prepared[Evolving], images: int) -> int:
    """Bytes of the images' features and of the checkpoints."""
    voting, base = prepared.plan.voting, prepared.base
    assert voting is not None
    one = of_candidates(base, prepared.adaptation.space, torch.zeros(1, *base.latent_shape))
    latents = KEPT * 2 * voting.candidates * math.prod(base.latent_shape)
    return 4 * images * one.shape[1] + latents
