"""The vote histogram: one unit moves it by at most one, whatever it holds, however many images it
owns; and the noise is what is billed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sfumato.privacy.mechanisms.histogram import GRID, MOST, NAME, VoteHistogram
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import noisy_vector

OWN = VoteHistogram(12, 3, 2, "latents")


def norm(moved: np.ndarray) -> int:
    return sum(int(x) * int(x) for x in moved)


def world(seed: int) -> tuple[VoteHistogram, np.ndarray, list[np.ndarray]]:
    """A random table and units of 0 to 40 images; some images vote for nothing or beyond it."""
    rng = np.random.default_rng(seed)
    votes = int(rng.integers(1, 4))
    own = VoteHistogram(3 * (votes + int(rng.integers(1, 6))), 3, votes, "latents")
    sizes = rng.choice([0, 1, 1, 1, 2, 3, 7, 40], int(rng.integers(1, 9)))
    named = rng.integers(-1, own.candidates + 1, (int(sizes.sum()), votes))
    # a unit whose images all say the same, and one whose images all differ, are the extremes
    if rng.random() < 0.5 and len(named):
        named[: int(sizes[0])] = rng.integers(0, own.candidates)
    ends = np.cumsum(sizes)
    shuffled = rng.permutation(len(named))
    owned = [shuffled[b - s : b] for s, b in zip(sizes, ends)]
    return own, named, owned


@pytest.mark.parametrize("block", range(5))
def test_five_hundred_neighbours_move_the_histogram_by_at_most_one(block):
    pairs = worst = 0
    seed = 1000 * block
    while pairs < 100:
        own, named, owned = world(seed)
        seed += 1
        whole = own.total(named, owned)
        for out in range(len(owned)):
            zeroed = named.copy()
            zeroed[owned[out]] = -1
            moved = whole - own.total(zeroed, owned)
            without = own.total(named, [o for i, o in enumerate(owned) if i != out])
            assert np.array_equal(whole - moved, without)
            assert norm(moved) <= GRID * GRID
            worst, pairs = max(worst, norm(moved)), pairs + 1
    # the bound is reached, not only kept
    assert worst == GRID * GRID


def test_units_of_any_counts_stay_on_the_bound():
    rng = np.random.default_rng(0)
    counts = np.concatenate(
        [
            rng.integers(0, 5, (200, 9)),
            rng.integers(0, 3 * MOST, (200, 9)),
            np.eye(9, dtype=np.int64) * 10**12,
            np.full((1, 9), 2**62),
            np.zeros((1, 9), np.int64),
        ]
    )
    rows = OWN.unit_rows(counts)
    assert rows.dtype == np.int64 and (rows >= 0).all()
    norms = [norm(row) for row in rows]
    assert max(norms) <= GRID * GRID and norms[-1] == 0
    # nothing is wasted but the rounding: a unit with votes fills its bound
    assert min(n for n in norms if n) > (GRID - 9) ** 2


def test_many_images_weigh_no_more_than_one_and_ties_are_shared():
    one, many = (OWN.unit_rows(np.array([[n, 0]])) for n in (1, 5000))
    assert one.tolist() == many.tolist() == [[GRID, 0]]
    both = OWN.unit_rows(np.array([[3, 3]]))[0]
    assert both[0] == both[1] == math.isqrt(GRID * GRID // 2)


def test_an_image_with_any_number_outside_the_table_counts_for_nothing():
    named = np.array([[0, 1], [0, -1], [12, 0], [-5, -5]])
    units = [np.array([i]) for i in range(4)]
    assert np.array_equal(OWN.total(named, units), OWN.total(named[:1], units[:1]))


def test_the_noise_is_what_is_billed():
    own = VoteHistogram(30_000, 3, 1, "latents")
    stddev = own.noise_stddev(1.7)
    assert stddev >= 1.7 * GRID and stddev == math.ceil(1.7 * GRID)
    nothing = own.total(np.full((5, 1), -1), [np.arange(5)])
    key = RunKey.generate()
    noisy = noisy_vector(nothing, stddev, key, step=3, attempt=0, name=NAME)
    assert noisy.dtype == np.int64
    z = noisy / (1.7 * GRID)
    # the spread of 30,000 numbers has a standard error of 0.4 %
    assert abs(z.std() - 1) < 0.025 and abs(z.mean()) < 0.03
    again = noisy_vector(nothing, stddev, key, step=3, attempt=0, name=NAME)
    other = noisy_vector(nothing, stddev, key, step=4, attempt=0, name=NAME)
    assert np.array_equal(noisy, again)
    assert abs(float(np.corrcoef(noisy, other)[0, 1])) < 0.03


def test_json_round_trip_and_contradictions():
    assert VoteHistogram.from_json(OWN.to_json()) == OWN and OWN.of_class == 4
    for change in ({"candidates": 13}, {"votes": 4}, {"votes": 0}, {"classes": True}):
        with pytest.raises(ValueError, match=r"integer >= 1|equally many|fewer candidates"):
            replace(OWN, **change)
    with pytest.raises(ValueError, match="names its public feature space"):
        replace(OWN, features="")
    for body in ({}, OWN.to_json() | {"more": 1}, []):
        with pytest.raises(ValueError, match="not a vote histogram of this version"):
            VoteHistogram.from_json(body)
    for counts in (np.array([[-1, 2]]), np.array([[0.5]]), np.array([1, 2])):
        with pytest.raises(ValueError, match="votes are counted"):
            OWN.unit_rows(counts)
    with pytest.raises(ValueError, match="by their numbers"):
        OWN.total(np.zeros((3, 1), np.int64), [np.arange(3)])
