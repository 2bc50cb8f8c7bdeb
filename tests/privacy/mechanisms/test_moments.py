"""Class moments: one unit moves a round's sum by at most its bound, whatever it holds, however many
images it owns; and the noise is what is billed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sfumato.privacy.mechanisms.moments import GRID, MOST, Moments

OWN = Moments(3, 4, 2, (2.0, 0.5), (10.0, 10.0, 10.0), 3.0)


def norm(row: np.ndarray) -> int:
    return sum(int(x) * int(x) for x in row.reshape(-1))


def test_units_of_any_numbers_stay_on_the_bound():
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((200, 12)) * 10.0 ** rng.integers(-12, 300, (200, 1))]
    parts += [np.eye(12) * scale for scale in (1.0, 1.0 + 1e-15, np.nextafter(1.0, 2), 1e308)]
    parts += [np.full((1, 12), value) for value in (0.0, 12**-0.5, np.inf, -np.inf, np.nan)]
    with np.errstate(over="ignore"):
        rows = OWN.unit_rows(np.concatenate(parts))
    norms = [norm(row) for row in rows]
    assert rows.dtype == np.int64 and max(norms) == GRID * GRID
    assert norms[-3:] == [0, 0, 0]
    # below the bound nothing is scaled up
    assert OWN.unit_rows(np.full((1, 2), 0.25)).tolist() == [[GRID // 4, GRID // 4]]


def test_products_have_the_square_of_the_norm_and_are_bounded_before():
    rng = np.random.default_rng(1)
    small = rng.standard_normal((50, 4))
    small *= 0.3 / np.linalg.norm(small, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(OWN.rows_of(1, small), axis=1), (0.3 / 0.5) ** 2)
    assert np.allclose(np.linalg.norm(OWN.rows_of(1, 1e6 * small), axis=1), 1.0)
    assert np.allclose(OWN.rows_of(0, small), small / 2.0)
    strange = np.array([[np.nan, 0, 0, 1], [np.inf, 0, 0, 1], [0, 0, 0, 0]])
    assert not OWN.rows_of(0, strange).any() and not OWN.rows_of(1, strange).any()
    i, j = np.triu_indices(4)
    shown = OWN.rows_of(1, np.array([[0.1, 0.2, 0.0, 0.0]]))[0] * 0.25
    assert shown[(i == 0) & (j == 1)] == pytest.approx(0.02 * math.sqrt(2))
    with pytest.raises(ValueError, match="numbers"):
        OWN.rows_of(0, np.zeros((1, 5)))


def test_a_constant_beside_the_picture_counts_its_unit():
    counted = replace(OWN, counting=0.25)
    rng = np.random.default_rng(2)
    far = 1e6 * rng.standard_normal((20, 4))
    rows = counted.rows_of(0, far)
    assert rows.shape == (20, 5) and np.allclose(np.linalg.norm(rows, axis=1), 1.0)
    assert (rows[:, -1] == 0.25).all()
    near = 0.1 * far / np.linalg.norm(far, axis=1, keepdims=True)
    assert np.allclose(counted.rows_of(0, near)[:, :4], near / 2.0)
    assert counted.picture_bound == pytest.approx(2.0 * math.sqrt(1 - 0.25**2))
    strange = np.array([[np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
    assert not counted.rows_of(0, strange).any()
    assert np.array_equal(counted.rows_of(1, far), OWN.rows_of(1, far))
    assert (counted.columns, counted.released) == (5, 3 * 15)


def test_the_noise_is_rounded_up_and_has_a_multiplier():
    assert replace(OWN, noise_multiplier=1 / 3).noise_stddev == GRID // 3 + 1
    with pytest.raises(ValueError, match="make the plan first"):
        _ = replace(OWN, noise_multiplier=None).noise_stddev
    assert (OWN.products, OWN.released) == (10, 3 * 14)
    assert replace(OWN, rounds=1, bounds=(2.0,)).released == 12
    assert OWN.unit(0) == 2.0 / GRID and OWN.unit(1) == 0.25 / GRID


def test_json_round_trip_and_contradictions():
    counted = replace(OWN, counting=0.25)
    assert Moments.from_json(OWN.to_json()) == OWN and "counting" not in OWN.to_json()
    assert Moments.from_json(counted.to_json()) == counted
    for change in (
        {"classes": 0},
        {"numbers": MOST + 1},
        {"rounds": 3},
        {"rounds": True},
        {"bounds": (1.0,)},
        {"bounds": (1.0, 0.0)},
        {"divisors": (1.0,)},
        {"divisors": (1.0, 1.0, math.inf)},
        {"noise_multiplier": 0.0},
        {"noise_before": math.nan},
        {"counting": 1.0},
        {"counting": -0.1},
        {"counting": math.nan},
    ):
        with pytest.raises(ValueError, match="class moments"):
            replace(OWN, **change)
    for body in ({}, OWN.to_json() | {"more": 1}, []):
        with pytest.raises(ValueError, match="of this version"):
            Moments.from_json(body)
    with pytest.raises(ValueError, match="must be lists"):
        Moments.from_json(OWN.to_json() | {"bounds": 1.0})
