"""Aggregation: the bound holds in integers for any vector, and on neighbouring data sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfumato.privacy.mechanisms.mean import GRID, Aggregation

CLIP = Aggregation("clip", 2, 16, 1, "vocabulary", True, (20.0, 20.0))
UNIT = Aggregation("unit", 1, 32, 1, "none", False, (40.0,))


def exact_square(row) -> int:
    return sum(int(x) ** 2 for x in row)


@pytest.mark.parametrize("rule", [CLIP, UNIT], ids=["clip", "unit"])
@pytest.mark.parametrize("clip_norm", [5e-324, 1e-303, 1e-6, 0.37, 1.0, 5e3, 1e308])
def test_no_row_exceeds_the_grid_whatever_it_holds(rule, clip_norm):
    rng = np.random.default_rng(0)
    for scale in (1e-300, 1e-9, 1.0, clip_norm, 1e150, 1e308):
        vectors = scale * rng.standard_normal((40, 32)).clip(-1, 1)
        vectors[3], vectors[4, 7], vectors[5, 1], vectors[6] = (
            0,
            np.nan,
            np.inf,
            np.eye(32)[5] * scale,
        )
        rows = rule.unit_rows(vectors, clip_norm)
        assert max(exact_square(row) for row in rows) <= GRID**2
        assert not rows[3].any() and not rows[4].any() and not rows[5].any()


def test_short_vectors_pass_and_long_ones_keep_their_direction():
    vectors = np.zeros((2, 32))
    vectors[0, 3], vectors[1, :2] = 0.25, (30.0, 40.0)
    rows = CLIP.unit_rows(vectors, 0.5)
    assert rows[0, 3] == GRID // 2 and np.abs(rows[0]).sum() == GRID // 2
    assert rows[1, :2].tolist() == [int(0.6 * GRID), int(0.8 * GRID)]
    # the paper's rule makes every embedding one long
    assert UNIT.unit_rows(vectors, 1.0)[0, 3] == GRID


def test_the_array_given_is_left_alone():
    vectors = np.full((1, 32), np.nan)
    CLIP.unit_rows(vectors, 1.0)
    assert np.isnan(vectors).all()


@pytest.mark.parametrize("rule", [CLIP, UNIT], ids=["clip", "unit"])
def test_no_neighbour_moves_the_sum_by_more_than_the_grid(rule):
    """500 neighbours: one unit's vector replaced by nothing, planted huge, or made NaN."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((60, 32)) * 10.0 ** rng.uniform(-3, 3, (60, 1))
    whole, moves = rule.unit_rows(vectors, 0.5).sum(0), []
    for trial in range(500):
        changed, unit = vectors.copy(), int(rng.integers(60))
        changed[unit] = (0.0, np.nan, np.inf, -np.inf)[trial % 4]
        moved = exact_square(rule.unit_rows(changed, 0.5).sum(0) - whole)
        assert moved <= GRID**2
        moves.append(moved)
    assert max(moves) > 0.999 * GRID**2  # the test would see a bound that is too small


def test_noise_is_never_below_what_is_billed():
    for sigma in (0.2, 0.5000001, 3.7306):
        assert CLIP.noise_stddev(sigma) >= sigma * GRID > CLIP.noise_stddev(sigma) - 1


def test_json_round_trip_and_refusals():
    assert Aggregation.from_json(CLIP.to_json()) == CLIP
    for change in (
        {"rule": "mean"},
        {"subspace": "private"},
        {"dimensions": 0},
        {"blocks": 1.0},
        {"shrink": 1},
        {"divisors": (1.0,)},
        {"divisors": (1.0, 0.0)},
        {"divisors": (1.0, float("nan"))},
        {"rule": "unit"},
    ):
        with pytest.raises(ValueError):
            replace(CLIP, **change)
    for body in ({}, [], {**CLIP.to_json(), "more": 1}, {**CLIP.to_json(), "divisors": 3}):
        with pytest.raises(ValueError):
            Aggregation.from_json(body)
    with pytest.raises(ValueError):
        CLIP.unit_rows(np.zeros((3, 31)), 1.0)
