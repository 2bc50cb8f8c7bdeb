"""The tests of known laws: right under the law, and as sharp as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sfumato.auditing import statistics
from sfumato.auditing.canaries import lower_bound, refutation, score, separation, simulated

RNG = np.random.default_rng(0)


def test_p_values_are_uniform_under_the_law():
    z = RNG.standard_normal((2000, 50))
    p = [statistics.chi_square_p(float(row @ row), 50) for row in z]
    assert stats.kstest(p, "uniform").pvalue > 1e-4
    counts = RNG.binomial(10_000, 0.3, 2000)
    assert np.mean([statistics.binomial_p(int(c), 10_000, 0.3) < 0.05 for c in counts]) < 0.07
    r = [statistics.correlation_p(a, b) for a, b in zip(z[:1000], z[1000:])]
    assert stats.kstest(r, "uniform").pvalue > 1e-4


def test_they_are_two_sided():
    assert statistics.chi_square_p(2000.0, 1000) < 1e-6 > statistics.chi_square_p(500.0, 1000)
    assert statistics.binomial_p(0, 1000, 0.1) < 1e-6 > statistics.binomial_p(300, 1000, 0.1)


def test_the_reference_sizes_for_noise():
    """Numbers for noise x c at alpha 1e-6 and power 99.9 %, as tabulated; the test is exact, the
    table an approximation.
    """
    for factor, numbers, room in (
        (0.5, 109, 0.08),
        (0.9, 2918, 0.005),
        (0.95, 11_969, 2e-3),
        (0.98, 76_036, 1e-3),
    ):
        assert statistics.noise_seen(numbers, 1e-6) == pytest.approx(factor, abs=room)
    one_sided = 2e-6  # the table's alpha is one-sided
    assert statistics.noise_seen(305_862, one_sided) == pytest.approx(0.99, abs=2e-5)
    assert statistics.noise_seen(330_000, 5e-7) > 0.99 > statistics.noise_seen(315_000, 5e-7)


def test_noise_of_the_size_seen_is_found_as_often_as_it_says():
    numbers, alpha = 20_000, 1e-3
    factor = statistics.noise_seen(numbers, alpha, power=0.9)
    found = [
        statistics.chi_square_p(factor**2 * RNG.chisquare(numbers), numbers) < alpha
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(0.9, abs=0.03)


def test_the_rate_seen_is_the_reference():
    assert statistics.rate_seen(1e4 * 2000, 0.05, 1e-6) == pytest.approx(0.0078, abs=2e-4)


def test_the_lower_bound_is_low_for_noise_and_never_above_the_truth():
    inside = RNG.random(4000) < 0.5
    assert lower_bound(RNG.standard_normal(4000), inside) < 0.7
    # all guesses right: as much as 400 guesses can say
    assert lower_bound(inside + 0.0, inside) > 3.5
    scores = score(simulated(inside, RNG))
    assert 1.0 < lower_bound(scores, inside) < 10.0 and separation(scores, inside) == pytest.approx(
        1.78, abs=0.3
    )


def test_a_refutation_is_a_binomial_tail_and_delta_costs_power():
    assert refutation(100, 20, 15, 1.0, 0.0) == pytest.approx(
        float(stats.binom.sf(14, 20, 1 / (1 + np.exp(-1))))
    )
    assert refutation(100, 20, 20, 1.0, 1e-2) > refutation(100, 20, 20, 1.0, 0.0)
    assert refutation(100, 20, 0, 1.0, 0.0) == 1.0
