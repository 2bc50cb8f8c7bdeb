"""Integers in a ball, and fields that are numbers > 0."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.privacy.mechanisms.bounded import integers_in_ball, is_positive


def test_no_rounding_carries_a_row_over_the_radius():
    rng = np.random.default_rng(0)
    for radius in (5, 1 << 10, 1 << 20):
        rows = rng.standard_normal((2000, 7))
        rows *= radius / np.linalg.norm(rows, axis=1, keepdims=True)
        # one grid unit on one axis, a hair over it, and far over it
        rows[:3] = 0
        rows[:3, 0] = radius, radius * (1 + 2.0**-50), radius + 1
        asked = rows.copy()
        found = integers_in_ball(rows, radius)
        assert found.dtype == np.int64 and (found[0, 0], found[2, 0]) == (radius, radius)
        assert ((found * found).sum(1) <= radius * radius).all()
        assert (abs(found) <= abs(asked) + 1e-6).all() and (abs(asked - found) <= 1 + 1e-6).all()


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, True, None, "1"])
def test_what_is_no_number_above_zero(bad):
    assert not is_positive(bad) and is_positive(1) and is_positive(1e-300)
