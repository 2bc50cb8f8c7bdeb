"""Tests of exact null distributions, and the smallest deviations that they see."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

POWER = 0.999


def chi_square_p(total: float, degrees: float) -> float:
    """Two-sided p-value of a sum of `degrees` squared standard normals."""
    return float(min(1.0, 2 * min(stats.chi2.cdf(total, degrees), stats.chi2.sf(total, degrees))))


def normal_p(z: float) -> float:
    """Two-sided p-value of a standard normal."""
    return float(2 * stats.norm.sf(abs(z)))


def binomial_p(count: int, trials: int, probability: float) -> float:
    """Two-sided p-value of a binomial count (twice the smaller tail)."""
    low, high = (
        stats.binom.cdf(count, trials, probability),
        stats.binom.sf(count - 1, trials, probability),
    )
    return float(min(1.0, 2 * min(low, high)))


def noise_seen(numbers: int, alpha: float, power: float = POWER) -> float:
    """The largest factor c < 1 on the noise that a two-sided chi-square test finds with `power`.

    The test is on `numbers` numbers. Exact in the chi-square law: c^2 times the chi-square quantile
    of the power must stay below the lower critical value.
    """
    low = stats.chi2.ppf(alpha / 2, numbers)
    return float(math.sqrt(low / stats.chi2.ppf(power, numbers)))


def rate_seen(trials: float, rate: float, alpha: float, power: float = POWER) -> float:
    """The relative deviation of a rate that `trials` inclusion bits show with `power`."""
    spread = math.sqrt((1 - rate) / (rate * trials))
    return float((stats.norm.isf(alpha / 2) + stats.norm.isf(1 - power)) * spread)


def correlation_seen(pairs: int, alpha: float, power: float = POWER) -> float:
    """The correlation that `pairs` pairs show with `power`."""
    return float((stats.norm.isf(alpha / 2) + stats.norm.isf(1 - power)) / math.sqrt(max(pairs, 1)))


def normality_p(z: np.ndarray) -> float:
    """Kolmogorov and Smirnov's p-value of `z` against the standard normal."""
    return float(stats.kstest(z, "norm").pvalue)


def correlation_p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of the correlation of two independent standard normal vectors.

    Of equal length.
    """
    return normal_p(float(np.dot(a, b) / math.sqrt(len(a))))
