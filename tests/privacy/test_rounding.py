"""The public grid of the training sums: what it follows from, and that it leaves room for what
rounding adds to one unit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest

from sfumato.privacy.plan import make_plan
from sfumato.privacy.request import Request
from sfumato.privacy.rounding import SLACK, Rounding

from .test_plan import GIVEN

SHAPES = [
    (0.5, 1),
    (0.05, 64),
    (1.0, 10_000),
    (1.0, 10_001),
    (0.3, 3 * 10**7),
    (1e-3, 10**9),
    (7.0, 4096),
]


@pytest.mark.parametrize(("sensitivity", "trainable"), SHAPES)
def test_rounding_every_number_once_costs_less_than_a_quarter_of_rho(sensitivity, trainable):
    """And the next power of two would cost more: the grid is no finer than the proof asks for."""
    step = Fraction(Rounding.of(sensitivity, trainable).step)
    most = Fraction(SLACK) * Fraction(sensitivity) / 4
    assert step**2 * trainable < most**2
    assert 2 * step * (math.isqrt(trainable - 1) + 1) >= most


@pytest.mark.parametrize(("sensitivity", "trainable"), SHAPES)
def test_the_bound_that_noise_is_counted_in_has_rho_in_it(sensitivity, trainable):
    grid = Rounding.of(sensitivity, trainable)
    exact = Fraction(sensitivity) * (1 + Fraction(SLACK)) / Fraction(grid.step)
    assert exact <= grid.bound < exact + 1
    assert (
        Fraction(grid.sensitivity)
        == grid.bound * Fraction(grid.step)
        >= Fraction(sensitivity) * (1 + Fraction(SLACK))
    )


def test_the_grid_does_not_follow_noise_steps_or_the_number_of_units():
    """It would change with the price or the people, and stands beside neither."""
    grids = {
        make_plan(Request(**GIVEN | changes)).rounding
        for changes in ({}, {"epsilon": 1.5}, {"steps": 30}, {"n_units": 5000, "delta": 1e-5})
    }
    assert len(grids) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"bound": r.bound - 1},
        lambda r: {"step": 2 * r.step},
        lambda r: {"slack": r.slack / 2},
    ],
)
def test_a_grid_that_does_not_follow_from_the_plan_is_refused(change):
    grid = Rounding.of(0.5, 100)
    grid.check(0.5, 100, 1000, 1.0)
    with pytest.raises(ValueError, match="does not follow from the plan"):
        replace(grid, **change(grid)).check(0.5, 100, 1000, 1.0)
