"""The size of an evolution, and what it takes: from public numbers and dummy pictures."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from ...compute import ranks
from ...compute.device import held_bytes
from ...errors import SfumatoError
from ...options import parse
from ...privacy.curves import gaussian_mu
from ..interface import Prepared, Timed, Work
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


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine: of a round's candidate in a whole run, and of an image.

    Attributes:
        candidate: Drawing it, varying it in every round, and looking at it.
        vote: Of one image among one candidate, in a round.
        image: Features of an image; zero where they are its cached latents.
        wide: Numbers of a feature.
    """

    candidate: float
    vote: float
    image: float
    wide: int

    def seconds(self, candidates: int, n_units: int, rounds: int) -> float:
        """Of all rounds."""
        votes = n_units * rounds * self.vote * candidates
        return candidates * self.candidate + votes + n_units * self.image


def estimate(prepared: Prepared[Evolving]) -> Work:
    """Seconds of all rounds on this machine, from a few dummy rows, and the memory in use."""
    plan, found = prepared.plan, pace(prepared)
    assert plan.voting is not None  # an evolution's plan has one
    seconds = found.seconds(plan.voting.candidates, plan.n_units, plan.steps)
    bytes_held = held_bytes(prepared.adaptation.base.device) + 4 * ROWS * found.wide
    return Work(seconds / ranks.world_size(), bytes_held)


def candidates_in(prepared: Prepared[Evolving], timed: Timed, seconds: float) -> int:
    """As many candidates as so many seconds allow, at most those that the plan has without a time.

    Raises:
        SfumatoError: The fewest take longer.
    """
    plan, found = prepared.plan, timed.pace
    assert plan.voting is not None
    classes, usual = plan.voting.classes, plan.voting.candidates
    none = found.seconds(0, plan.n_units, plan.steps)
    fixed, each = timed.fixed + none, found.seconds(1, plan.n_units, plan.steps) - none
    whole = int((seconds - fixed) / each / classes)
    if whole < LEAST:
        least = fixed + each * LEAST * classes
        raise SfumatoError(
            f"--time {parse.in_words(seconds)}: {LEAST * classes} candidates, the fewest that"
            f" {classes} classes take, need about {parse.in_words(least)} here: give"
            f" {parse.enough(least)}, or fewer --iterations"
        )
    return min(usual, whole * classes)


def pace(prepared: Prepared[Evolving]) -> Pace:
    """Measured on a few dummy rows."""
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
    return Pace(
        pass_ * (1 + strengths) + looked * plan.steps,
        votes / voting.candidates,
        looked * (adapted.space.name != "latents"),
        table.shape[1],
    )


def scratch_bytes(prepared: Prepared[Evolving], images: int) -> int:
    """Bytes of the images' features and of the checkpoints."""
    voting, base = prepared.plan.voting, prepared.base
    assert voting is not None
    one = of_candidates(base, prepared.adaptation.space, torch.zeros(1, *base.latent_shape))
    latents = KEPT * 2 * voting.candidates * math.prod(base.latent_shape)
    return 4 * images * one.shape[1] + latents
