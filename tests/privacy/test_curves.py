"""Curves, the mu that dominates one and the bounds on attacks, against golden figures."""

from __future__ import annotations

import itertools

import pytest

from sfumato.privacy import curves
from sfumato.privacy.events import Gaussian, Laplace, PoissonGaussian

Q, DELTA = 4096 / 60000, 1e-5
REFERENCE = {1: PoissonGaussian(Q, 9.8140, 1465), 10: PoissonGaussian(Q, 1.4949, 1465)}


def near(value, relative=1e-3):
    return pytest.approx(value, rel=relative)


@pytest.mark.parametrize(
    "mu, epsilon, rate",
    [
        (0.25, 0.9263, 1.89),
        (0.5, 1.9931, 3.39),
        (1, 4.3772, 9.24),
        (2, 9.9973, 37.2),
        (3, 16.6755, 75.0),
    ],
)
def test_mu_oracles(mu, epsilon, rate):
    assert curves.gaussian_delta(mu, epsilon) == near(DELTA, 1e-3)
    assert curves.gaussian_mu(epsilon, DELTA) == near(mu, 1e-4)
    success = curves.attack_success([Gaussian(1 / mu)], grid=1e-3)
    assert success["0.01"] * 100 == near(rate, 6e-3)
    assert curves.dominating_mu(curves.curve([Gaussian(1 / mu)], grid=1e-3)) == near(mu, 5e-3)


def test_curve_mu_and_attack_success_of_the_reference_run():
    points = curves.curve([REFERENCE[1]])
    assert len(points) == 64 and points[0][0] == 0.0
    assert all(a[0] < b[0] and a[1] >= b[1] for a, b in itertools.pairwise(points))
    assert points[-1][1] == near(1e-9)
    assert curves.dominating_mu(points) == near(0.2687)
    success = curves.attack_success([REFERENCE[1]])
    assert success == {
        "0.001": near(0.0024, 0.03),
        "0.01": near(0.0198, 6e-3),
        "0.1": near(0.155, 5e-3),
    }


@pytest.mark.parametrize(
    "some",
    [
        [PoissonGaussian(0.05, 2.0, 400)],
        [PoissonGaussian(0.05, 0.8256, 400)],
        [Gaussian(3), Laplace(0.1)],
    ],
)
def test_mu_dominates_the_whole_curve(some):
    """Matched at one delta only, or rounded down, it would promise less than can be found."""
    points = curves.curve(some, grid=1e-3)
    mu = curves.dominating_mu(points)
    for epsilon, delta in points:
        assert delta < 1e-9 * (1 - 1e-6) or curves.gaussian_delta(mu, epsilon) >= delta
    lower = [
        curves.gaussian_delta(mu - 1e-4, epsilon) < delta for epsilon, delta in points if delta < 1
    ]
    assert any(lower)  # and no more than that


@pytest.mark.slow
def test_curve_mu_and_attack_success_at_ten():
    assert curves.dominating_mu(curves.curve([REFERENCE[10]])) == near(2.0356)
    success = curves.attack_success([REFERENCE[10]])
    assert success == {"0.001": near(0.126, 5e-3), "0.01": near(0.346, 5e-3), "0.1": near(0.736)}
