"""Privacy curves: delta over epsilon, and what follows from the whole of one.

The mu of Gaussian DP that dominates it (arXiv 1905.02383) and the bounds on membership inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import Any, cast

import numpy as np
from scipy import optimize
from scipy.special import log_ndtr

from sfumato.privacy import accounting
from sfumato.privacy.accounting import composed, round_up
from sfumato.privacy.events import Event


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
    return root(lambda mu: float(gaussian_delta(mu, epsilon)) - delta, low, high, xtol=1e-12)


def root(function: Callable[[float], float], low: float, high: float, **tolerance: float) -> float:
    """A root of the function (Brent's method)."""
    solve = cast(Callable[..., Any], optimize.brentq)
    return float(solve(function, low, high, **tolerance))


def curve(
    events: Sequence[Event],
    relation: str = "zero-out",
    points: int = 64,
    *,
    grid: float = accounting.CERTIFICATE_GRID,
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
    return list(_known_curve(tuple(events), relation, points, grid, floor))


# A certificate asks for two curves of the same events, and for the same again when it is tried.
_accountant = lru_cache(maxsize=1, typed=True)(composed)


@lru_cache(maxsize=64, typed=True)
def _known_curve(
    events: tuple[Event, ...], relation: str, points: int, grid: float, floor: float
) -> tuple[tuple[float, float], ...]:
    accountant = _accountant(events, relation, grid)
    epsilons = np.linspace(0.0, accountant.get_epsilon(floor), points)
    up = Context(prec=6, rounding=ROUND_CEILING)
    return tuple(
        (float(e), min(float(up.create_decimal(Decimal(float(delta)))), 1.0))
        for e, delta in zip(epsilons, accountant.get_delta(epsilons), strict=True)
    )


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
    grid: float = accounting.CERTIFICATE_GRID,
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
