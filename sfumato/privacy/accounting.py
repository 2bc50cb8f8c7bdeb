"""Accounting: what a list of events costs.

The authority is dp_accounting's PLD; RDP is kept as a cross-check.

Rounding is always against us: noise multipliers up to 4 decimals, epsilon up to 3, mu and success
rates up to 4. The central-limit accountant is never used (it reports less than the true cost),
except to guess where a search should start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from typing import Any, cast

import dp_accounting
import numpy as np
from absl import logging as absl_logging
from dp_accounting import NeighboringRelation, pld, rdp
from scipy import optimize
from scipy.special import log_ndtr

from sfumato.privacy.events import Event, Gaussian, Laplace, PoissonGaussian

CERTIFICATE_GRID = 1e-4
PLANNING_GRID = 1e-3
MIN_NOISE, MAX_NOISE = 0.2, 1e4  # the range in which a noise multiplier is searched
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


def _pld_of(events: Sequence[Event], relation: str, grid: float) -> Accountant:
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
    composed = dp_accounting.ComposedDpEvent([_dp_event(event, relation) for event in events])
    with quiet():
        return Accountant(RELATIONS[relation], float(grid)).compose(composed)


def _raw_epsilon(events: Sequence[Event], delta: float, relation: str, grid: float) -> float:
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
        return float(_pld_of(events, relation, grid).get_epsilon(delta))


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
    epsilon = _raw_epsilon(events, delta, relation, grid)
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
    with quiet():
        accountant = rdp.RdpAccountant(neighboring_relation=RELATIONS[relation])
        for event in events:
            accountant.compose(_dp_event(event, relation))
        return float(accountant.get_epsilon(check_delta(delta) * (1 - DISCRETENESS)) + DISCRETENESS)


def calibrate(
    other_events: Sequence[Event],
    sampling_rate: float,
    steps: int,
    epsilon: float,
    delta: float,
    relation: str = "zero-out",
    grid: float = CERTIFICATE_GRID,
) -> float:
    """The noise multiplier of training that brings the composed cost to `epsilon`.

    The cost of training and `other_events` together, recomputed on `grid` and rounded up to 3
    decimals, is <= epsilon.

    Args:
        other_events: Queries beside training, already with their noise.
        sampling_rate: Chance of a unit to be in a step.
        steps: Training steps that are billed.
        epsilon: The target, in [0.001, 500]; more than 3 decimals are cut off.
        delta: Strictly between 0 and 1.
        relation: The adjacency relation, one of `RELATIONS`.
        grid: Discretisation of the privacy loss on which the result must hold.

    Returns:
        The noise multiplier, rounded up to 4 decimals and never below 0.2 (where it is 0.2, the
        cost may
        be lower than the target).

    Raises:
        ValueError: The other events alone reach the target, or no noise multiplier up to 10,000
            meets it.
    """  # noqa: DOC501 (unmet makes a ValueError)
    target = float(
        Decimal(repr(check_epsilon(epsilon))).quantize(Decimal("0.001"), rounding=ROUND_FLOOR)
    )
    delta, other = check_delta(delta), tuple(other_events)
    PoissonGaussian(sampling_rate, 1.0, steps)
    if other and (alone := exact_epsilon(other, delta, relation, grid)) >= target:
        raise ValueError(
            f"the one-shot events alone cost epsilon {round_up(alone):.3f} of {epsilon:g}: "
            "drop the noisy histogram or the probe, give them more noise, or raise epsilon or delta"
        )

    def cost(noise: float, at: float) -> float:
        spent = (*other, PoissonGaussian(sampling_rate, noise, steps))
        return min(_raw_epsilon(spent, delta, relation, at), 1e6)  # finite, for the root finder

    def unmet(least: float) -> ValueError:
        return ValueError(
            f"no noise multiplier up to {MAX_NOISE:g} brings epsilon to {epsilon:g} (it stays at"
            f" {round_up(least):.3f}): raise epsilon or delta, take fewer steps, or drop the noisy"
            " histogram or the probe"
        )

    mu = gaussian_mu(target, delta) / (2.0 if relation == "replace-one" else 1.0)
    # central limit, a place to start only
    guess = 1.0 / math.sqrt(math.log1p((mu / sampling_rate) ** 2 / steps))
    coarse = max(grid, PLANNING_GRID * (1 if target < 3 else 10))  # relative error is what counts
    bracket = _bracket(lambda value: cost(value, coarse) <= target, guess)
    if bracket is None and grid < coarse:
        coarse = grid  # the coarse grid's own error may be all that stands in the way
        bracket = _bracket(lambda value: cost(value, coarse) <= target, guess)
    if bracket is None:
        raise unmet(cost(MAX_NOISE, grid))
    low, high = bracket
    if low == high:
        return low
    noise = _root(lambda value: cost(value, coarse) - target, low, high, xtol=2e-5, rtol=1e-6)

    # The coarse grid errs upwards, so its answer is a little high; Newton steps in logarithms on
    # the fine grid bring it back.
    if grid < coarse:
        slope = math.log(cost(noise * 1.01, coarse) / cost(noise, coarse)) / math.log(1.01)
        for _ in range(3):
            step = min(max((target / cost(noise, grid)) ** (1.0 / min(slope, -0.05)), 0.8), 1.25)
            noise *= step
            if abs(step - 1.0) < 1e-3:  # Newton squares the error: the next step would not show
                break
    noise, bump = max(round_up(noise, 4), MIN_NOISE), 1
    while (reached := cost(noise, grid)) > target:
        if noise >= MAX_NOISE:
            raise unmet(reached)
        noise, bump = round(noise + bump * 1e-4, 4), bump * 2
    return noise


def calibrate_probe(
    other_events: Sequence[Event],
    probe: Callable[[float], Event],
    training: Event,
    epsilon: float,
    delta: float,
    relation: str = "zero-out",
    grid: float = CERTIFICATE_GRID,
) -> float:
    """The least noise multiplier of a probe that leaves room for `training`.

    `other_events`, `probe(noise)` and `training` together cost at most `epsilon`.

    Args:
        other_events: Queries beside the probe and training.
        probe: The probe's event for a noise multiplier.
        training: Training's event, with its noise.
        epsilon: The target.
        delta: Strictly between 0 and 1.
        relation: The adjacency relation, one of `RELATIONS`.
        grid: Discretisation of the privacy loss.

    Returns:
        The noise multiplier, rounded up to 2 decimals and at least 1. Less would buy nothing: at 1
        the
        noise is already far below what the scores differ by.

    Raises:
        ValueError: No noise multiplier up to 10,000 is enough.
    """
    target, delta = check_epsilon(epsilon), check_delta(delta)

    def fits(noise: float, at: float) -> bool:
        return _raw_epsilon((*other_events, probe(noise), training), delta, relation, at) <= target

    # The coarse grid errs upwards, so its answer is safe; where its error eats all the room, the
    # fine one is asked.
    for at in sorted({max(grid, PLANNING_GRID), grid}, reverse=True):
        if not fits(MAX_NOISE, at):
            continue
        low, high = 1.0, 1.0
        while not fits(high, at):
            low, high = high, min(4 * high, MAX_NOISE)
        while high - low > 0.01 * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if fits(middle, at) else (middle, high)
        return round_up(high, 2)
    raise ValueError(
        "no probe is cheap enough for this share of the budget: raise --probe-share or choose"
        " without a probe"
    )


def _bracket(enough: Callable[[float], bool], guess: float) -> tuple[float, float] | None:
    """Two noise multipliers around the root, from a guess.

    Returns:
        (too little, enough); the least multiplier twice if it is enough, None if the greatest is
        not.
    """
    low = high = min(max(guess, MIN_NOISE), MAX_NOISE)
    factor, upwards = 1.05, not enough(high)
    while True:
        edge = high if upwards else low
        if edge == (MAX_NOISE if upwards else MIN_NOISE):
            return None if upwards else (edge, edge)
        moved = min(high * factor, MAX_NOISE) if upwards else max(low / factor, MIN_NOISE)
        low, high, factor = (high, moved, factor**2) if upwards else (moved, low, factor**2)
        if enough(moved) == upwards:
            return low, high


def gaussian_delta(mu: float, epsilon: float | np.ndarray) -> float | np.ndarray:
    """The delta of a mu-Gaussian-DP mechanism (arXiv 1905.02383, corollary 1).

    Stable for large epsilon.

    Args:
        mu: Sensitivity over the noise's standard deviation.
        epsilon: One value or an array.

    Returns:
        delta for each epsilon, float64.
    """
    epsilon = np.asarray(epsilon, dtype=np.float64)
    first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return np.maximum(-np.exp(first) * np.expm1(np.minimum(second - first, 0.0)), 0.0)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The mu for which `gaussian_delta(mu, epsilon) == delta`."""
    low, high = 1e-6, 1.0
    while gaussian_delta(high, epsilon) < delta:
        high *= 2.0
    if gaussian_delta(low, epsilon) >= delta:
        return low
    return _root(lambda mu: float(gaussian_delta(mu, epsilon)) - delta, low, high, xtol=1e-12)


def _root(function: Callable[[float], float], low: float, high: float, **tolerance: float) -> float:
    """A root of the function (Brent's method)."""
    solve = cast(Callable[..., Any], optimize.brentq)
    return float(solve(function, low, high, **tolerance))


def curve(
    events: Sequence[Event],
    relation: str = "zero-out",
    points: int = 64,
    *,
    grid: float = CERTIFICATE_GRID,
    floor: float = 1e-9,
) -> list[tuple[float, float]]:
    """The privacy curve: pairs (epsilon, delta), from epsilon 0 to where delta reaches `floor`.

    Args:
        events: What the mechanism did to the data.
        relation: The adjacency relation, one of `RELATIONS`.
        points: How many pairs, at equal distances in epsilon.
        grid: Discretisation of the privacy loss.
        floor: The smallest delta.

    Returns:
        `points` pairs, delta rounded up to 6 digits.
    """
    accountant = _pld_of(events, relation, grid)
    epsilons = np.linspace(0.0, accountant.get_epsilon(floor), points)
    up = Context(prec=6, rounding=ROUND_CEILING)
    return [
        (float(e), min(float(up.create_decimal(Decimal(float(delta)))), 1.0))
        for e, delta in zip(epsilons, accountant.get_delta(epsilons), strict=True)
    ]


def dominating_mu(curve: Sequence[tuple[float, float]], floor: float = 1e-9) -> float:
    """The mu whose Gaussian mechanism dominates the curve where delta >= floor.

    It grows as the floor drops and means nothing without it (arXiv 2606.09582).

    Args:
        curve: Pairs (epsilon, delta).
        floor: Points with a smaller delta are left out.

    Returns:
        mu, rounded up to 4 decimals.

    Raises:
        ValueError: No point is above the floor.
    """
    found = [
        gaussian_mu(epsilon, delta) for epsilon, delta in curve if floor * (1 - 1e-6) <= delta < 1
    ]
    if not found:
        raise ValueError(
            "no point of the curve has delta above the floor: lower the floor or add points"
        )
    return round_up(max(found), 4)


def attack_success(
    events: Sequence[Event],
    relation: str = "zero-out",
    *,
    rates: Sequence[float] = (0.001, 0.01, 0.1),
    grid: float = CERTIFICATE_GRID,
) -> dict[str, float]:
    """Upper bounds on the true positive rate of any membership inference attack.

    Args:
        events: What the mechanism did to the data.
        relation: The adjacency relation, one of `RELATIONS`.
        rates: False positive rates.
        grid: Discretisation of the privacy loss.

    Returns:
        The bound at each false positive rate, from the whole privacy curve, rounded up.
    """
    pairs = np.array(curve(events, relation, 400, grid=grid, floor=1e-10))
    epsilon, delta = pairs[:, 0], pairs[:, 1]
    bounds: dict[str, float] = {}
    for rate in rates:
        first = np.exp(np.minimum(epsilon, 700.0)) * rate + delta
        second = 1.0 - np.exp(-epsilon) * (1.0 - delta - rate)
        bounds[f"{rate:g}"] = round_up(min(float(np.minimum(first, second).min()), 1.0), 4)
    return bounds
