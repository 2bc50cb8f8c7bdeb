"""Selection by noisy accuracies: one unit moves the sums by at most the sensitivity, whatever it
holds, and the noise is what is billed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.privacy.mechanisms.selection import HALF, NAME, STEP, Selection
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import noisy_vector

RNG = np.random.default_rng(5)


def hostile(candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Units of 0 to a million images, all wrong, all right, mixed."""
    images = np.array([0, 1, 1, 2, 3, 7, 1000, 10**6, 10**6, 10**6 - 1])
    right = np.stack([RNG.integers(0, images + 1) for _ in range(candidates)], 1)
    right[[1, 7]], right[[2, 8]] = images[[1, 7], None], 0
    return right, images


@pytest.mark.parametrize("candidates", [1, 2, 3, 7, 50])
def test_a_unit_moves_the_sums_by_at_most_the_sensitivity(candidates):
    mechanism = Selection(candidates, 10, 3.0)
    right, images = hostile(candidates)
    whole = mechanism.total(right, images)
    for out in range(len(images)):
        kept = np.arange(len(images)) != out
        # with nothing in its place the sum lacks just its row
        moved = whole - mechanism.total(right[kept], images[kept])
        assert int((moved * moved).sum()) <= mechanism.sensitivity**2
        zeroed = mechanism.total(np.where(kept[:, None], right, 0), np.where(kept, images, 0))
        assert np.array_equal(whole - moved, zeroed)
    assert mechanism.contributions(right, images).dtype == np.int64
    # The bound is reached, not only kept: a unit that is all right fills it but for rounding up.
    full = mechanism.contributions(np.full((1, candidates), 9), np.array([9]))
    assert math.sqrt(int((full * full).sum())) > mechanism.sensitivity - 1
    assert mechanism.sensitivity == math.ceil(HALF * math.sqrt(candidates) - 1e-9)


def test_many_images_weigh_no_more_than_one():
    mechanism = Selection(2, 4, 1.0)
    one, many = (mechanism.contributions(np.array([[n, 0]]), np.array([n])) for n in (1, 5000))
    assert np.array_equal(one, many) and one.tolist() == [[HALF, -HALF]]


def test_counts_that_cannot_be_are_refused():
    mechanism = Selection(2, 4, 1.0)
    for right, images in (([[2, 0]], [1]), ([[-1, 0]], [1]), ([[1]], [1]), ([[1, 1], [1, 1]], [1])):
        with pytest.raises(ValueError, match="no more than images"):
            mechanism.contributions(np.array(right), np.array(images))
    for said in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0), (1, 1, math.nan), (True, 1, 1.0)):
        with pytest.raises(ValueError, match="must be"):
            Selection(*said)


def test_the_noise_is_what_is_billed():
    """Its deviation in units of what one unit can add is the multiplier, and independent between
    candidates.
    """
    mechanism = Selection(40, 500, 1.7)
    assert mechanism.noise_stddev >= 1.7 * mechanism.sensitivity > mechanism.noise_stddev - 1
    drawn = np.array(
        [
            noisy_vector(
                np.zeros(40, int),
                mechanism.noise_stddev,
                RunKey.generate(),
                step=STEP,
                attempt=0,
                name=NAME,
            )
            for _ in range(250)
        ]
    )
    assert drawn.std() == pytest.approx(1.7 * mechanism.sensitivity, rel=0.03)
    assert (
        abs(np.corrcoef(drawn.T) - np.eye(40)).max() < 0.35
        and abs(drawn.mean()) < 0.05 * mechanism.noise_stddev
    )
    accuracies = np.array([mechanism.accuracies(row) for row in drawn])
    assert accuracies.std() == pytest.approx(mechanism.noise_error, rel=0.03)


def test_without_noise_the_accuracies_are_the_shares():
    mechanism = Selection(2, 6, 1.0)
    total = mechanism.total(
        np.array([[1, 0], [2, 1], [3, 3], [0, 0], [4, 0], [0, 0]]), np.array([1, 2, 3, 0, 4, 5])
    )
    # The unit without images counts as half right.
    assert mechanism.accuracies(total) == pytest.approx(((4 + 0.5) / 6, (0.5 + 1 + 0.5) / 6))
    assert (
        mechanism.standard_error(0.5) > mechanism.noise_error
        and mechanism.standard_error(1.7) == mechanism.noise_error
    )
