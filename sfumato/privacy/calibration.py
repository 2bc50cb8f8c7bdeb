"""Calibration: the least noise at which the events of a plan cost what was asked.

Found on a coarse grid, which errs upwards, and brought back on the grid on which it must hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Decimal

from sfumato.privacy import accounting
from sfumato.privacy.accounting import (
    check_delta,
    check_epsilon,
    epsilon_or_infinity,
    exact_epsilon,
    round_up,
)
from sfumato.privacy.curves import gaussian_mu, root
from sfumato.privacy.events import Event, PoissonGaussian

MIN_NOISE, MAX_NOISE = 0.2, 1e4  # the range in which a noise multiplier is searched


def calibrate(
    other_events: Sequence[Event],
    sampling_rate: float,
    steps: int,
    epsilon: float,
    delta: float,
    relation: str = "zero-out",
    grid: float = accounting.CERTIFICATE_GRID,
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
        cost may be lower than the target).

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
        return min(
            epsilon_or_infinity(spent, delta, relation, at), 1e6
        )  # finite, for the root finder

    def unmet(least: float) -> ValueError:
        return ValueError(
            f"no noise multiplier up to {MAX_NOISE:g} brings epsilon to {epsilon:g} (it stays at"
            f" {round_up(least):.3f}): raise epsilon or delta, take fewer steps, or drop the noisy"
            " histogram or the probe"
        )

    mu = gaussian_mu(target, delta) / (2.0 if relation == "replace-one" else 1.0)
    # central limit, a place to start only
    guess = 1.0 / math.sqrt(math.log1p((mu / sampling_rate) ** 2 / steps))
    coarse = max(
        grid, accounting.PLANNING_GRID * (1 if target < 3 else 10)
    )  # relative error is what counts
    bracket = _bracket(lambda value: cost(value, coarse) <= target, guess)
    if bracket is None and grid < coarse:
        coarse = grid  # the coarse grid's own error may be all that stands in the way
        bracket = _bracket(lambda value: cost(value, coarse) <= target, guess)
    if bracket is None:
        raise unmet(cost(MAX_NOISE, grid))
    low, high = bracket
    if low == high:
        return low
    noise = root(lambda value: cost(value, coarse) - target, low, high, xtol=2e-5, rtol=1e-6)

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
    grid: float = accounting.CERTIFICATE_GRID,
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
        the noise is already far below what the scores differ by.

    Raises:
        ValueError: No noise multiplier up to 10,000 is enough.
    """
    target, delta = check_epsilon(epsilon), check_delta(delta)

    def fits(noise: float, at: float) -> bool:
        return (
            epsilon_or_infinity((*other_events, probe(noise), training), delta, relation, at)
            <= target
        )

    # The coarse grid errs upwards, so its answer is safe; where its error eats all the room, the
    # fine one is asked.
    for at in sorted({max(grid, accounting.PLANNING_GRID), grid}, reverse=True):
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
