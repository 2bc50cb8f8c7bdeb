"""The integer sampler: every probability of its table, the ratio of its convolutions, forced ties, moments, tails and a golden vector."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import stats

from sfumato.privacy import gaussian
from sfumato.privacy.keys import RunKey

KEY = RunKey(bytes(range(32)))
NUMBERS = 1_000_000


def untied(index, term):
    raise AssertionError("a tie came up: its probability is below 2^-40")


def drawn(variance, count, step=0):
    sampler = gaussian.discrete_gaussian(Fraction(variance))
    words = KEY.stream("noise", step, 0, "gaussian").words(count * sampler.terms).reshape(count, sampler.terms)
    return sampler, sampler.draw(words, untied)


@pytest.mark.parametrize("variance", [Fraction(4), Fraction(37, 8), Fraction(10**4)])
def test_every_threshold_is_the_distribution_function_to_63_bits(variance):
    with mpmath.workdps(60):
        weights = [
            mpmath.exp(-mpmath.mpf(j * j * variance.denominator) / (2 * variance.numerator)) for j in range(2000)
        ]
        total = 2 * mpmath.fsum(weights) - 1
        table, reached = gaussian._Table(variance).thresholds, -weights[0]
        for m, threshold in enumerate(table.tolist()):
            reached += 2 * weights[m]
            assert threshold == int(mpmath.floor(reached / total * 2**63)), m
    assert table[-1] == 2**63 - 1 and len(table) > 8.5 * float(variance) ** 0.5


@pytest.mark.parametrize("sd", [2, 3.7, 1000, 5000, 10**5, 10**7, 10**9, 10**12])
def test_moments_tails_and_shape(sd):
    sampler, values = drawn(Fraction(sd) ** 2, NUMBERS)
    width = float(sampler.variance) ** 0.5
    assert 0 <= sampler.variance / Fraction(sd) ** 2 - 1 < Fraction(1, 2**60)
    assert (
        abs(values.mean()) < 4.5 * width / NUMBERS**0.5 and abs(values.std() / width - 1) < 4.5 / (2 * NUMBERS) ** 0.5
    )
    edges = np.floor(stats.norm.ppf(np.arange(1, 64) / 64) * width) + 0.5
    law = np.diff([0.0, *stats.norm.cdf(edges / width), 1.0])
    if sd < 100:  # few integers to a cell: the sums of the weights themselves
        support = np.arange(-int(12 * width), int(12 * width) + 1)
        weights = np.exp(-(support**2) / (2 * width**2))
        edges = np.unique(edges)
        law = np.array([weights[np.searchsorted(edges, support) == cell].sum() for cell in range(len(edges) + 1)])
        law /= law.sum()
    observed = np.bincount(np.searchsorted(edges, values), minlength=len(law))
    assert stats.chisquare(observed, law * NUMBERS).pvalue > 1e-4
    if sd >= 100:
        for far in (3, 4, 4.5):
            expected = 2 * stats.norm.sf(far) * NUMBERS
            assert abs((np.abs(values) > far * width).sum() - expected) < 5 * expected**0.5


@pytest.mark.parametrize("sd", [4097, 10**5, 10**7, 10**12])
def test_every_factor_is_smooth(sd):
    sampler = gaussian.discrete_gaussian(Fraction(sd) ** 2)
    assert gaussian.smooth(sampler.factors, sampler.base) and len(sampler.factors) > 1
    larger = (*sampler.factors[:-1], 2 * sampler.factors[-1])
    assert not gaussian.smooth(larger, sampler.base)


def test_ties_are_resolved_by_further_words():
    table = gaussian._Table(Fraction(100))
    threshold = int(table.thresholds[7])
    with mpmath.workdps(80):
        weights = [mpmath.exp(-mpmath.mpf(j * j) / 200) for j in range(400)]
        digits = (2 * mpmath.fsum(weights[:8]) - 1) / (2 * mpmath.fsum(weights) - 1) * 2**127
        second = int(mpmath.floor(digits)) - (threshold << 64)
    words = np.array([threshold << 1, threshold << 1 | 1, threshold << 1, threshold << 1], dtype=np.uint64)
    tails = [[second - 1], [second + 1], [second, 0], [second, 2**64 - 1]]
    values = table.signed(words, lambda i: iter(tails[i]))
    assert values.tolist() == [7, -8, 7, 8]
