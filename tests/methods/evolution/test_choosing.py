"""What noisy votes choose: in proportion above the threshold, and never nothing."""

from __future__ import annotations

import numpy as np

from sfumato.methods.evolution.choosing import elders, parents
from sfumato.privacy.mechanisms.histogram import GRID, VoteHistogram

OWN = VoteHistogram(20, 2, 1, "dummy")


def choose(votes, threshold=2.0, sigma=1.0, step=0):
    noisy = np.round(np.asarray(votes, float) * GRID).astype(np.int64)
    return parents(OWN, noisy, sigma, threshold, 0, step)


def test_places_are_in_proportion_to_votes_within_a_class():
    votes = [30, 10, 10, 0, 0, 0, 0, 0, 0, 0] + [0] * 9 + [7]
    chosen = choose(votes)
    assert np.bincount(chosen, minlength=20).tolist() == [6, 2, 2, *[0] * 16, 10]
    assert np.array_equal(np.sort(chosen), chosen)


def test_votes_under_the_threshold_and_below_zero_count_as_none():
    votes = [5, 1.9, -40, *[0] * 7] + [1.0] * 10
    first, second = np.split(np.bincount(choose(votes), minlength=20), 2)
    assert first.tolist() == [10, *[0] * 9]
    # nothing stands out in the second class: all of it stays
    assert second.tolist() == [1] * 10
    assert np.bincount(choose(votes, threshold=0.0), minlength=20)[1] > 0


def test_the_first_place_of_a_parent_stays_and_further_ones_vary():
    chosen = np.array([2, 2, 2, 5, 7, 7])
    assert elders(chosen).tolist() == [True, False, False, True, True, False]


def test_rounds_resample_with_public_seeds_of_their_own():
    votes = np.random.default_rng(0).random(20) * 9 + 3
    assert np.array_equal(choose(votes, step=1), choose(votes, step=1))
    assert any(not np.array_equal(choose(votes, step=0), choose(votes, step=s)) for s in (1, 2, 3))
