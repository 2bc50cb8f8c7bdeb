"""The integer sampler: every probability of its table, the ratio of its convolutions, forced ties,
moments, tails and a golden vector.
"""

from __future__ import annotations

import bisect
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import stats

from sfumato.privacy import accounting
from sfumato.privacy.random import gaussian
from sfumato.privacy.random.keys import RunKey

KEY = RunKey(bytes(range(32)))
NUMBERS = 1_000_000


def untied(index, term):
    raise AssertionError("a tie came up: its probability is below 2^-40")


def drawn(variance, count, step=0):
    sampler = gaussian.discrete_gaussian(Fraction(variance))
    words = (
        KEY.stream("noise", step, 0, "gaussian")
        .words(count * sampler.terms)
        .reshape(count, sampler.terms)
    )
    return sampler, sampler.draw(words, untied)


@pytest.mark.parametrize("variance", [Fraction(4), Fraction(37, 8), Fraction(10**4)])
def test_every_threshold_is_the_distribution_function_to_63_bits(variance):
    with mpmath.workdps(60):
        weights = [
            mpmath.exp(-mpmath.mpf(j * j * variance.denominator) / (2 * variance.numerator))
            for j in range(2000)
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
        abs(values.mean()) < 4.5 * width / NUMBERS**0.5
        and abs(values.std() / width - 1) < 4.5 / (2 * NUMBERS) ** 0.5
    )
    edges = np.floor(stats.norm.ppf(np.arange(1, 64) / 64) * width) + 0.5
    law = np.diff([0.0, *stats.norm.cdf(edges / width), 1.0])
    if sd < 100:  # few integers to a cell: the sums of the weights themselves
        support = np.arange(-int(12 * width), int(12 * width) + 1)
        weights = np.exp(-(support**2) / (2 * width**2))
        edges = np.unique(edges)
        law = np.array(
            [
                weights[np.searchsorted(edges, support) == cell].sum()
                for cell in range(len(edges) + 1)
            ]
        )
        law /= law.sum()
    observed = np.bincount(np.searchsorted(edges, values), minlength=len(law))
    assert stats.chisquare(observed, law * NUMBERS).pvalue > 1e-4
    if sd >= 100:
        for far in (3, 4, 4.5):
            expected = 2 * stats.norm.sf(far) * NUMBERS
            assert abs((np.abs(values) > far * width).sum() - expected) < 5 * expected**0.5


def test_ties_are_resolved_by_further_words():
    table = gaussian._Table(Fraction(100))
    threshold = int(table.thresholds[7])
    with mpmath.workdps(80):
        weights = [mpmath.exp(-mpmath.mpf(j * j) / 200) for j in range(400)]
        digits = (2 * mpmath.fsum(weights[:8]) - 1) / (2 * mpmath.fsum(weights) - 1) * 2**127
        second = int(mpmath.floor(digits)) - (threshold << 64)
    words = np.array(
        [threshold << 1, threshold << 1 | 1, threshold << 1, threshold << 1], dtype=np.uint64
    )
    tails = [[second - 1], [second + 1], [second, 0], [second, 2**64 - 1]]
    values = table.signed(words, lambda i: iter(tails[i]))
    assert values.tolist() == [7, -8, 7, 8]


@pytest.mark.parametrize("sd", [2, 80, 3000])
def test_the_quick_way_is_plain_inversion(sd):
    """Words at every threshold's neighbours and at the edges of all buckets, looked up one by one
    with integers.
    """
    table = gaussian._Table(Fraction(sd) ** 2)
    levels = table.thresholds.tolist()
    near = [value for t in levels for value in (t - 1, t + 1) if 0 <= value < 2**63]
    near += [
        value
        for edge in range(0, 1 << 16, 7)
        for value in (edge << 47, (edge << 47) - 1)
        if value >= 0
    ]
    near = sorted(set(near) - set(levels))
    words = np.array([value << 1 | (i & 1) for i, value in enumerate(near)], dtype=np.uint64)
    expected = [(-1) ** (i & 1) * bisect.bisect_left(levels, value) for i, value in enumerate(near)]
    assert table.signed(words, untied).tolist() == expected


def law(factors, base, reach):
    """Every probability of the convolution on -reach..reach, 60 digits."""
    span = int(24 * base**0.5) + 1
    weights = {x: mpmath.exp(-mpmath.mpf(x * x) / (2 * base)) for x in range(-span, span + 1)}
    total = mpmath.fsum(weights.values())
    first = {x: weights[x] / total for x in weights}
    (factor,) = factors[1:]
    return {
        x: mpmath.fsum(first.get(x - factor * z, 0) * p for z, p in first.items())
        for x in range(-reach, reach + 1)
    }


def ratios(factors, base, reach):
    """Largest |log| of the ratio to the discrete Gaussian of the same variance, up to a
    constant.
    """
    with mpmath.workdps(60):
        found, variance = law(factors, base, reach), base * sum(k * k for k in factors)
        logs = [mpmath.log(p) + mpmath.mpf(x * x) / (2 * variance) for x, p in found.items()]
        return (max(logs) - min(logs)) / 2


def test_a_convolution_keeps_the_ratio_at_every_point():
    """To nine standard deviations every probability is within 2^-112 of the law's, and no longer
    where a factor is too large.
    """
    assert gaussian.smooth((1, 3), Fraction(64)) and not gaussian.smooth((1, 8), Fraction(64))
    assert ratios((1, 3), 64, 225) < mpmath.mpf(2) ** -112
    assert ratios((1, 8), 64, 225) > 1e-9


@pytest.mark.parametrize("variance", [4097**2, 10**9 + 4, 10**14 + 4, 10**24, 2**100])
def test_no_factor_is_too_large(variance):
    """The conditional variances as the proof has them, from the sampler's own factors, and at most
    five terms.
    """
    sampler = gaussian.discrete_gaussian(Fraction(variance))
    base, reached = sampler.base, Fraction(sampler.base)
    assert 2 <= sampler.terms <= 5 and sampler.factors[0] == 1
    for factor in sampler.factors[1:]:
        assert reached * base / (reached + factor**2 * base) >= 4
        reached += factor**2 * base
    assert variance <= reached == sampler.variance


def test_every_variance_has_a_smooth_convolution():
    rng = np.random.default_rng(0)
    exact = [
        Fraction(int(2.0 ** rng.uniform(4, 99)) + int(rng.integers(99)), int(rng.integers(1, 4)))
        for _ in range(500)
    ]
    exact += [
        Fraction(4096) ** 2 * Fraction(2) ** i + d
        for i in range(76)
        for d in (-1, 0, Fraction(1, 9), 1)
    ]
    for variance in exact:
        factors, base = gaussian._convolution(variance)
        assert gaussian.smooth(factors, base) and base <= 4200**2, variance
        assert 0 <= base * sum(k * k for k in factors) / variance - 1 < Fraction(1, 2**60), variance


def test_the_constants_of_the_proof():
    with mpmath.workdps(60):
        smoothing = 2 * mpmath.fsum(mpmath.exp(-8 * mpmath.pi**2 * j**2) for j in range(1, 9))
        assert smoothing < mpmath.mpf(2) ** -112
        # Poisson's sum: the normaliser of the random rounding hardly depends on where it happens.
        for centre in (0, 0.1, 0.25, 0.37, 0.5):
            around = mpmath.fsum(
                mpmath.exp(-((mpmath.mpf(z) - centre) ** 2) / 8) for z in range(-80, 81)
            )
            assert abs(around / mpmath.sqrt(8 * mpmath.pi) - 1) < smoothing * (
                1 + mpmath.mpf(10) ** -20
            )
        each = 5 * (
            mpmath.log(1 + smoothing) - mpmath.log(1 - smoothing)
        )  # 4 factors, and the rounding of the continuous
        assert each < mpmath.mpf(2) ** -109
        whole = 2**14 * accounting.MOST_NUMBERS * each
        assert (
            2 * whole <= accounting.DISCRETENESS
            and mpmath.exp(whole) * (1 - accounting.DISCRETENESS) <= 1
        )


def test_integer_noise_is_post_processed_continuous_noise():
    """The mixture of the proof, integrated: normal of variance 5, then a discrete Gaussian of
    variance 4 around it, against D(9).
    """
    with mpmath.workdps(50):
        weight = lambda x, v: mpmath.exp(-(mpmath.mpf(x) ** 2) / (2 * v))  # noqa: E731
        total = mpmath.fsum(weight(x, 9) for x in range(-110, 111))
        # trapezoids of a Gaussian converge at once
        places = [mpmath.mpf(i) / 4 for i in range(-160, 161)]
        around = {
            i % 4: mpmath.fsum(weight(z - mpmath.mpf(i % 4) / 4, 4) for z in range(-80, 81))
            for i in range(4)
        }
        for x in (0, 1, 5, 14, 27):
            parts = (
                weight(y, 5) * weight(x - y, 4) / around[(i - 160) % 4]
                for i, y in enumerate(places)
            )
            mixed = mpmath.fsum(parts) / 4 / mpmath.sqrt(10 * mpmath.pi)
            assert abs(mixed / (weight(x, 9) / total) - 1) < mpmath.mpf(2) ** -111


@pytest.mark.parametrize("variance", [0, 1, Fraction(399, 100), 2**100 + 1])
def test_variances_out_of_range_are_refused(variance):
    with pytest.raises(ValueError):
        gaussian.DiscreteGaussian(Fraction(variance))
