"""What a promise of epsilon and delta leaves to an attacker, whatever the mechanism."""

from __future__ import annotations

import math
from statistics import NormalDist

RATES = (0.001, 0.01, 0.1)  # of the units that were not used, wrongly accused
_CURVE = NormalDist()
LARGEST = 700.0  # an exponent that a float64 still holds


def found_at_most(rate: float, epsilon: float, delta: float) -> float:
    """The largest share of members that any attack finds.

    Both sides of the definition bound the true positive rate of a test between two neighbours
    (Kairouz, Oh, Viswanath 2015, theorem 2.1).

    Args:
        rate: False positive rate, 0 to 1.
        epsilon: Of the promise.
        delta: Of the promise.

    Returns:
        A share, 0 to 1.
    """
    first = math.exp(min(epsilon, LARGEST)) * rate + delta
    second = 1 - math.exp(-epsilon) * (1 - delta - rate)
    return max(rate, min(first, second, 1.0))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu whose Gaussian sum keeps epsilon and delta (Balle, Wang 2018, theorem 8)."""
    low, high = 0.0, 40.0
    while high - low > 1e-7:
        mu = (low + high) / 2
        first = _CURVE.cdf(mu / 2 - epsilon / mu)
        second = _CURVE.cdf(-mu / 2 - epsilon / mu)
        if first - math.exp(min(epsilon, LARGEST)) * second <= delta:
            low = mu
        else:
            high = mu
    return low


def found_by_gaussian(rate: float, mu: float) -> float:
    """The share of members that the best attack on one Gaussian sum finds, an example and no bound.

    Args:
        rate: False positive rate, above 0 and below 1.
        mu: Of the sum: what one unit adds over the noise's standard deviation.

    Returns:
        A share, 0 to 1.
    """
    return _CURVE.cdf(_CURVE.inv_cdf(rate) + mu)


def percent_up(percent: float) -> str:
    """Two decimals, rounded up: a bound is never printed smaller than it is.

    Nor as a hundred in a hundred, which would say that an attack is known that finds them all.
    """
    shown = math.ceil(percent * 100 - 1e-9) / 100
    return f"{shown:.2f} %" if shown < 100 else "> 99.99 %"


def for_a_group(epsilon: float, delta: float, size: int) -> tuple[float, float]:
    """The promise for everything of `size` units together, whatever the mechanism.

    Args:
        epsilon: For one unit.
        delta: For one unit.
        size: How many units.

    Returns:
        (epsilon, delta) of the group; delta is at most 1 (Dwork, Roth 2014, theorem 2.2, with the
        sum of the geometric series).
    """
    if epsilon == 0:
        return 0.0, min(1.0, size * delta)
    grown = math.expm1(min(size * epsilon, LARGEST)) / math.expm1(min(epsilon, LARGEST))
    return size * epsilon, min(1.0, delta * grown)
