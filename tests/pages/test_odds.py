"""Odds in words are bounds: never below what the accountant finds for a mechanism."""

from __future__ import annotations

import pytest

from sfumato.pages.odds import (
    RATES,
    for_a_group,
    found_at_most,
    found_by_gaussian,
    gaussian_mu,
    percent_up,
)
from sfumato.privacy.accounting import epsilon_of
from sfumato.privacy.curves import attack_success
from sfumato.privacy.curves import gaussian_mu as accountants_mu
from sfumato.privacy.events import Gaussian, PoissonGaussian

DELTA = 1e-5


@pytest.mark.parametrize("events", [(Gaussian(2.0),), (PoissonGaussian(0.05, 1.0, 40),)])
def test_a_promise_allows_at_least_what_its_mechanism_does(events):
    epsilon = epsilon_of(events, DELTA, "zero-out", 1e-3)
    exact = attack_success(events, grid=1e-3)
    for rate in RATES:
        assert found_at_most(rate, epsilon, DELTA) >= exact[f"{rate:g}"] - 1e-4


def test_the_bound_is_that_of_randomised_response_and_of_giving_a_unit_away():
    # one bit, kept with probability e/(1+e): found are e of 1+e where one of 1+e is accused
    assert found_at_most(1 / (1 + 2.718281828459045), 1.0, 0.0) == pytest.approx(0.7310585786)
    # with probability delta the unit is published outright
    assert found_at_most(0.0, 0.0, 0.01) == pytest.approx(0.01)
    assert found_at_most(0.2, 0.0, 0.0) == pytest.approx(0.2)
    assert found_at_most(0.5, 1000.0, 0.0) == 1


def test_a_group_of_two_is_two_steps_from_one_unit_to_the_next():
    epsilon, delta = for_a_group(1.0, 1e-5, 2)
    assert epsilon == 2 and delta == pytest.approx((1 + 2.718281828459045) * 1e-5)
    assert for_a_group(0.0, 1e-5, 3) == (0.0, pytest.approx(3e-5))
    assert for_a_group(20.0, 1e-5, 10)[1] == 1


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_the_example_is_the_gaussian_sum_of_that_promise(epsilon):
    mu = gaussian_mu(epsilon, DELTA)
    assert mu == pytest.approx(accountants_mu(epsilon, DELTA), rel=1e-4)
    for rate in RATES:
        assert found_by_gaussian(rate, mu) <= found_at_most(rate, epsilon, DELTA) + 1e-9
    assert found_by_gaussian(0.5, 1.0) == pytest.approx(0.841344746)


def test_percentages_are_rounded_up():
    assert percent_up(2.3401) == "2.35 %" and percent_up(2.34) == "2.34 %"
    assert percent_up(99.981) == "99.99 %"
    assert percent_up(99.9901) == percent_up(100.0) == "> 99.99 %"
