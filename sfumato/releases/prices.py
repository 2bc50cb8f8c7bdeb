"""All figures of a certificate that follow from a plan's events.

Priced before the charge, kept in the run folder, read again at release.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import dp_accounting as dp

from sfumato.privacy import accounting, curves
from sfumato.privacy import events as dp_events

GRID = 1e-4  # of a plan that names none
DELTA_FLOOR = 1e-9
GROUP_SIZES = (2, 3, 5, 10)
MOST_POINTS = 1e7  # of the whole loss: 80 MB
MOST_CELLS = 1e5  # of single draws' losses, at about 50 microseconds each
MOST_STEPS = 10**6
TOO_COSTLY = "a verifier would need too long"
# What dp_accounting and the numerical libraries under it raise where a figure leaves the range of
# their numbers.
BEYOND = (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError)
NEIGHBOURS = {
    "zero-out": dp.NeighboringRelation.REPLACE_SPECIAL,
    "add-remove": dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
}


def prices_of(
    events: list[dict[str, Any]], delta: float, relation: str, grid: float, unit: str
) -> dict[str, Any]:
    """Prices `events` (as `events.to_json`) in full, and keeps what was asked for.

    epsilon, curve, mu, attack_success, second (the Renyi accountant's figure) and k_table.
    `left_out` names the figures that are missing, and why: those under replace-one, those that no
    accountant resolves, and group sizes that cost a verifier too much. ValueError if epsilon
    itself, the curve, mu or the attacks cannot be priced: such a plan is not charged.
    """
    try:
        parsed = dp_events.from_json(events)
        epsilon = accounting.epsilon_of(parsed, delta, relation, grid)
        curve = curves.curve(parsed, relation, grid=grid, floor=DELTA_FLOOR)
        figures = {
            "epsilon": epsilon,
            "curve": [[float(e), float(d)] for e, d in curve],
            "mu": curves.dominating_mu(curve, DELTA_FLOOR),
            "attack_success": curves.attack_success(parsed, relation, grid=grid),
        }
    except ValueError:
        raise
    except BEYOND as error:
        raise ValueError(
            f"{type(error).__name__} in the accountant: use more noise or another delta"
        ) from error
    left_out: list[str] = []
    figures["second"] = _second(parsed, delta, relation, left_out)
    figures["k_table"] = None
    if unit == "record" and relation in NEIGHBOURS:
        figures["k_table"] = table = record_groups(parsed, delta, relation, epsilon)
        missing = [str(k) for k in GROUP_SIZES if str(k) not in (table or {})]
        if missing:
            left_out.append(
                f"k_table for {', '.join(missing)} records: {TOO_COSTLY}, or no accountant"
                " resolves it"
            )
    asked = {"events": events, "delta": delta, "relation": relation, "grid": grid, "unit": unit}
    return {**asked, **figures, "left_out": left_out}


def group_grid(events: tuple[Any, ...], k: int) -> float:
    """The accountant's grid for k records that belong together."""
    noise = min(getattr(event, "noise_multiplier", 1.0) for event in events)
    return min(max((k**2 / (2 * noise**2) + 6 * k / noise) / 1500, 1e-3), 2e-2)


def _cells(events: tuple[Any, ...], k: int) -> float:
    """Points of single draws' losses that k records together take.

    Infinity if they take too many steps, or points of the whole loss.
    """
    mean, cells, grid = 0.0, 0.0, group_grid(events, k)
    for event in events:
        ratio = k * event.epsilon if hasattr(event, "epsilon") else k / event.noise_multiplier
        share = min(
            getattr(event, "sampling_rate", 1.0) ** 2 * math.expm1(min(ratio**2, 600)), ratio**2
        )
        count = getattr(event, "steps", getattr(event, "count", 1))
        if count > MOST_STEPS:
            return math.inf
        mean += count * share / 2
        cells += (ratio**2 / 2 + 6 * ratio) / grid if hasattr(event, "steps") else 0
    return cells if (mean + 9 * math.sqrt(mean)) / grid <= MOST_POINTS else math.inf


def group_sizes(events: tuple[Any, ...]) -> tuple[int, ...]:
    """The group sizes, smallest first, that a verifier can price together within seconds.

    Whatever the events.
    """
    sizes, cells = [], 0.0
    for k in GROUP_SIZES:
        cells += _cells(events, k)
        if cells > MOST_CELLS:
            break
        sizes.append(k)
    return tuple(sizes)


def record_groups(
    events: tuple[Any, ...],
    delta: float,
    relation: str,
    epsilon: float,
    sizes: tuple[int, ...] | None = None,
) -> dict[str, Any] | None:
    """Epsilon for k records that belong together, k = 1, 2, 3, 5, 10, at the same delta.

    Each draw holds a Binomial(k, q) number of them (mixture of Gaussians; all k of them if q is 1,
    which is one Gaussian). The grid follows the range of one step's loss, so that the table takes
    seconds; a coarse grid errs upward. A size that is too costly, or that no accountant resolves,
    ends the table.

    Args:
        events: The priced events.
        delta: The same for all sizes.
        relation: None is returned for replace-one.
        epsilon: That of one record.
        sizes: Those of `group_sizes`, or those that a certificate names, each of which may cost as
            much
            as all of them (a forged one must not fill a verifier's time or memory).

    Returns:
        The table; None if its first size cannot be priced.
    """
    if relation not in NEIGHBOURS:
        return None
    table = {"1": epsilon}
    for k in group_sizes(events) if sizes is None else sizes:
        try:
            if not _cells(events, k) <= MOST_CELLS:
                break
            table[str(k)] = _together(events, k, delta, relation)
        except BEYOND:
            break
    return table if len(table) > 1 else None


@lru_cache(maxsize=1024)  # priced when the certificate is made, and again when it is checked
def _together(events: tuple[Any, ...], k: int, delta: float, relation: str) -> float:
    """Epsilon of k records together, rounded up; an error of BEYOND where it is not resolved."""
    accountant = accounting.Accountant(NEIGHBOURS[relation], group_grid(events, k))
    for event in events:
        if hasattr(event, "steps"):
            accountant.compose(_drawn(event.sampling_rate, event.noise_multiplier, k), event.steps)
        elif hasattr(event, "noise_multiplier"):
            accountant.compose(dp.GaussianDpEvent(event.noise_multiplier / k), event.count)
        else:
            accountant.compose(dp.LaplaceDpEvent(1 / (event.epsilon * k)))
    return accounting.round_up(accountant.get_epsilon(delta))


def _drawn(rate: float, noise: float, k: int) -> dp.DpEvent:
    """One draw of k records, each in it with probability `rate`.

    dp_accounting takes no share of zero, which a mixture at rate 1 has.
    """
    shares = {i: math.comb(k, i) * rate**i * (1 - rate) ** (k - i) for i in range(k + 1)}
    shares = {i: share for i, share in shares.items() if share > 0}
    if list(shares) == [k]:
        return dp.GaussianDpEvent(noise / k)
    return dp.dp_event.MixtureOfGaussiansDpEvent(noise, list(shares), list(shares.values()))


def _second(
    events: tuple[Any, ...], delta: float, relation: str, left_out: list[str]
) -> dict[str, Any] | None:
    """The Renyi accountant's figure, which must be the higher one.

    None under replace-one, which it does not double.
    """
    if relation == "replace-one":
        return None
    try:
        return {
            "name": "dp_accounting RDP",
            "epsilon": accounting.round_up(accounting.rdp_epsilon(events, delta, relation)),
        }
    except BEYOND:
        left_out.append("the second accountant's figure: it is beyond the range of its numbers")
        return None
