"""Accounting: what a list of events costs.

The authority is dp_accounting's PLD; RDP is kept as a cross-check.

Rounding is always against us: noise multipliers up to 4 decimals, epsilon up to 3, mu and success
rates up to 4. The central-limit accountant is never used (it reports less than the true cost),
except to guess where a search should start.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any

import dp_accounting
import numpy as np
from absl import logging as absl_logging
from dp_accounting import NeighboringRelation, pld, rdp

from sfumato.privacy.events import Event, Gaussian, Laplace, PoissonGaussian

CERTIFICATE_GRID = 1e-4
PLANNING_GRID = 1e-3
MAX_EPSILON = 500.0
# What integers cost beside continuous noise. The law of each noised number is within exp(+-2^-109)
# of post-processed continuous noise of the billed size (docs/privacy.md). With N numbers and x = N
# 2^-109 the release is (epsilon + 2 x, e^x delta)-DP where continuous noise is (epsilon, delta)-DP.
# A plan has at most 2^54 numbers, all runs on a group of images 2^68: then 2 x <= 2^-40.
DISCRETENESS = 2.0**-40
MOST_NUMBERS = 1 << 54
NO_EVENT = "only events of sfumato.privacy.events can be priced: build them there"
RELATIONS = {
    "zero-out": NeighboringRelation.REPLACE_SPECIAL,
    "add-remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
    # PLD doubles the distance itself; no other place of ours may
    "replace-one": NeighboringRelation.REPLACE_ONE,
}


def round_up(value: float, decimals: int = 3) -> float:
    """Rounds up to a number of decimal places, exactly: no float product is rounded on the way.

    Args:
        value: A finite number.
        decimals: Places after the point.

    Returns:
        The smallest decimal of that many places >= `value`.
    """
    return float(Decimal(value).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_CEILING))


def check_delta(delta: float) -> float:
    """Returns delta as a float.

    dp_accounting would answer delta = 2 with epsilon = 0, so the range is checked here.

    Raises:
        ValueError: delta is not a number with 0 < delta < 1.
    """
    if isinstance(delta, bool) or not isinstance(delta, (int, float)) or not 0.0 < delta < 1.0:
        raise ValueError("delta must lie strictly between 0 and 1: take at most 1 / n_units")
    return float(delta)


def check_epsilon(epsilon: float) -> float:
    """Returns epsilon as a float.

    Raises:
        ValueError: epsilon is not a number with 0.001 <= epsilon <= 500.
    """
    if (
        isinstance(epsilon, bool)
        or not isinstance(epsilon, (int, float))
        or not math.isfinite(epsilon)
        or epsilon <= 0
    ):
        raise ValueError("epsilon must be a finite number > 0: common choices are 1 and 10")
    if not 1e-3 <= epsilon <= MAX_EPSILON:
        raise ValueError(
            "epsilon must lie between 0.001 and 500: outside, no meaningful noise exists"
        )
    return float(epsilon)


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Without a warning of RDP for each order that it leaves out; the answer stays valid."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)


def _dp_event(event: Event, relation: str):
    if isinstance(event, PoissonGaussian):
        step = dp_accounting.PoissonSampledDpEvent(
            event.sampling_rate, dp_accounting.GaussianDpEvent(event.noise_multiplier)
        )
        return dp_accounting.SelfComposedDpEvent(step, event.steps)
    if isinstance(event, Gaussian):
        return dp_accounting.SelfComposedDpEvent(
            dp_accounting.GaussianDpEvent(event.noise_multiplier), event.count
        )
    if isinstance(event, Laplace):
        if relation == "replace-one":
            raise ValueError(
                "Laplace events cannot be priced under replace-one: use Gaussian noise or zero-out"
            )
        return dp_accounting.LaplaceDpEvent(1.0 / event.epsilon)
    raise ValueError(NO_EVENT)


class Accountant(pld.PLDAccountant):
    """dp_accounting's PLD accountant, with the share of discreteness in every figure."""

    def get_epsilon(self, target_delta: float) -> float:
        """Epsilon at `target_delta`, with the price of integer noise (`DISCRETENESS`)."""
        return super().get_epsilon(target_delta * (1 - DISCRETENESS)) + DISCRETENESS

    def get_delta(self, target_epsilon: Any) -> Any:
        """Delta at `target_epsilon`, or at each of an ascending array in one pass over the losses.

        With the price of integer noise (`DISCRETENESS`).

        Returns:
            A float, or as many.
        """
        return super().get_delta(target_epsilon - DISCRETENESS) * (1 + DISCRETENESS)


def composed(events: Sequence[Event], relation: str, grid: float) -> Accountant:
    """Composes the privacy loss distributions of all events.

    Returns:
        An accountant rather than a distribution, so that dp_accounting's own rules apply.

    Raises:
        ValueError: An unknown relation, or a grid outside (0, 0.1].
    """
    if relation not in RELATIONS:
        raise ValueError(f"unknown relation: use one of {', '.join(RELATIONS)}")
    if isinstance(grid, bool) or not isinstance(grid, (int, float)) or not 0.0 < grid <= 0.1:
        raise ValueError("grid must lie in (0, 0.1]: 1e-4 for a certificate")
    whole = dp_accounting.ComposedDpEvent([_dp_event(event, relation) for event in events])
    with quiet():
        return Accountant(RELATIONS[relation], float(grid)).compose(whole)


def epsilon_or_infinity(events: Sequence[Event], delta: float, relation: str, grid: float) -> float:
    """Epsilon; infinity if delta or e^epsilon leaves the range of float64."""
    if not events:
        return 0.0
    if not all(isinstance(event, Event) for event in events):
        raise ValueError(NO_EVENT)
    return _known_epsilon(tuple(events), check_delta(delta), relation, grid)


# A plan, the run that follows it and its certificate ask the same figures again.
@lru_cache(maxsize=1024, typed=True)
def _known_epsilon(events: tuple[Event, ...], delta: float, relation: str, grid: float) -> float:
    with np.errstate(over="ignore"):
        return float(composed(events, relation, grid).get_epsilon(delta))


def exact_epsilon(
    events: Sequence[Event],
    delta: float,
    relation: str = "zero-out",
    grid: float = CERTIFICATE_GRID,
) -> float:
    """Epsilon of all events composed, unrounded.

    Args:
        events: What the mechanism did to the data.
        delta: Strictly between 0 and 1.
        relation: The adjacency relation, one of `RELATIONS`.
        grid: Discretisation of the privacy loss, in (0, 0.1].

    Returns:
        Epsilon at `delta`; 0 for no events.

    Raises:
        ValueError: Invalid input, or a cost beyond what the accountant resolves.
    """
    epsilon = epsilon_or_infinity(events, delta, relation, grid)
    if not math.isfinite(epsilon):
        raise ValueError(
            "the cost is beyond what the accountant resolves: add noise, or take a delta of 1e-12"
            " or more"
        )
    return epsilon


def epsilon_of(
    events: Sequence[Event],
    delta: float,
    relation: str = "zero-out",
    grid: float = CERTIFICATE_GRID,
) -> float:
    """Epsilon of all events composed, rounded up to 3 decimals: the figure to print.

    Args:
        events: What the mechanism did to the data.
        delta: Strictly between 0 and 1.
        relation: The adjacency relation, one of `RELATIONS`.
        grid: Discretisation of the privacy loss, in (0, 0.1].

    Returns:
        `exact_epsilon`, rounded up.
    """
    return round_up(exact_epsilon(events, delta, relation, grid))


def rdp_epsilon(events: Sequence[Event], delta: float, relation: str = "zero-out") -> float:
    """The Renyi accountant's epsilon, a cross-check: always above the PLD's.

    Args:
        events: What the mechanism did to the data.
        delta: Strictly between 0 and 1.
        relation: "zero-out" or "add-remove".

    Returns:
        Epsilon at `delta`, unrounded.

    Raises:
        ValueError: An unknown relation, or replace-one, which RDP does not double.
    """
    if relation not in RELATIONS or relation == "replace-one":
        raise ValueError(
            "the RDP cross-check knows zero-out and add-remove only: use the PLD figure"
        )
    return _known_rdp_epsilon(tuple(events), check_delta(delta), relation)


@lru_cache(maxsize=1024, typed=True)
def _known_rdp_epsilon(events: tuple[Event, ...], delta: float, relation: str) -> float:
    with quiet():
        accountant = rdp.RdpAccountant(neighboring_relation=RELATIONS[relation])
        for event in events:
            accountant.compose(_dp_event(event, relation))
        return float(accountant.get_epsilon(delta * (1 - DISCRETENESS)) + DISCRETENESS)
