"""Class moments from latents: 500 neighbours, the noise, its addresses, and what a unit weighs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfumato.methods.warm_up import release as released
from sfumato.methods.warm_up.release import (
    Small,
    add_noise_once,
    bounded_total,
    class_means,
    release,
    small,
)
from sfumato.privacy.mechanisms.moments import GRID, Moments
from sfumato.privacy.random.keys import RunKey

SHAPE, SIDE = (1, 5, 4), 2
OWN = Moments(3, 4, 2, (1.5, 0.7), (4.0, 4.0, 4.0), 2.0)
COUNTED = replace(OWN, counting=0.4)


def norm(moved: np.ndarray) -> int:
    return sum(int(x) * int(x) for x in moved.reshape(-1))


def world(seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Random latents of many scales, some broken, and units of 0 to 40 images."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 1, 1, 2, 3, 7, 40], int(rng.integers(1, 9)))
    n = int(sizes.sum())
    latents = (rng.standard_normal((n, *SHAPE)) * 10.0 ** rng.integers(-3, 4)).astype(np.float16)
    if n:
        latents[rng.integers(0, n)] = rng.choice([np.nan, np.inf, 6e4, 0.0])
    label = rng.integers(-1, 3, n)
    if rng.random() < 0.5 and n:  # a unit of equal images is an extreme
        latents[: int(sizes[0])], label[: int(sizes[0])] = latents[0], 1
    ends, shuffled = np.cumsum(sizes), rng.permutation(n)
    return latents, label, [shuffled[b - s : b] for s, b in zip(sizes, ends)]


@pytest.mark.parametrize("block", range(5))
def test_five_hundred_neighbours_move_a_sum_by_at_most_its_bound(block):
    pairs = worst = 0
    seed = 1000 * block
    means = np.random.default_rng(block).standard_normal((3, 4))
    while pairs < 100:
        latents, label, owned = world(seed)
        seed += 1
        given = [(0, None), (1, means)]
        own = OWN if seed % 2 else COUNTED
        whole = [bounded_total(own, r, Small(latents, SIDE), label, owned, m) for r, m in given]
        for unit in owned:
            gone = label.copy()
            gone[unit] = -1
            empty = latents.copy()
            empty[unit] = 0
            for (r, m), full in zip(given, whole):
                less = bounded_total(own, r, Small(empty, SIDE), gone, owned, m)
                moved = norm(full - less)
                assert moved <= GRID * GRID
                worst = max(worst, moved)
            pairs += 1
    # the bound is reached, not only kept
    assert worst > (GRID - 9) ** 2


def test_a_unit_of_many_images_weighs_no_more_than_one():
    latents = np.full((5, *SHAPE), 0.25, np.float16)
    one = bounded_total(OWN, 0, Small(latents, SIDE), np.array([1] * 5), [np.arange(1)])
    many = bounded_total(OWN, 0, Small(latents, SIDE), np.array([1] * 5), [np.arange(5)])
    assert np.abs(one - many).max() <= 1 and many[1].any() and not many[[0, 2]].any()
    spread = bounded_total(OWN, 0, Small(latents, SIDE), np.array([0, 1, 2, -1, 1]), [np.arange(5)])
    # a quarter, two quarters, a quarter; an image without a label is none
    assert np.abs(2 * spread[0] - spread[1]).max() <= 2 and spread[2].any()


def test_a_unit_is_counted_once_and_without_a_usable_image_never():
    latents = np.full((5, *SHAPE), 0.25, np.float16)
    label, owned = np.array([1, 1, 2, -1, -1]), [np.arange(3), np.array([3]), np.array([4])]
    counts = bounded_total(COUNTED, 0, Small(latents, SIDE), label, owned)[:, -1] / (0.4 * GRID)
    assert np.allclose(counts, [0, 2 / 3, 1 / 3], atol=1e-5)


def test_how_others_are_cut_changes_no_unit(monkeypatch):
    rng = np.random.default_rng(3)
    latents = rng.standard_normal((20, *SHAPE)).astype(np.float16)
    label, owned = np.arange(20) % 3, [np.array([i]) for i in range(20)]
    means = rng.standard_normal((3, 4))
    whole = bounded_total(OWN, 1, Small(latents, SIDE), label, owned, means)
    monkeypatch.setattr(released, "UNITS", 3)
    assert np.array_equal(whole, bounded_total(OWN, 1, Small(latents, SIDE), label, owned, means))


def test_a_small_picture_is_a_function_of_one_image():
    rng = np.random.default_rng(4)
    latents = rng.standard_normal((6, 1, 4, 4)).astype(np.float16)
    one = Small(latents, 2)[np.array([3])][0]
    assert np.array_equal(Small(latents, 2)[np.arange(6)][3], one)
    assert np.allclose(one, latents[3, 0].astype(float).reshape(2, 2, 2, 2).mean((1, 3)).ravel())
    assert small(latents[0], 9).shape == (1, 4, 4)


def test_the_noise_is_what_is_billed_and_every_round_and_attempt_has_its_own():
    wide = replace(OWN, classes=10_000, divisors=(4.0,) * 10_000, noise_multiplier=1.7)
    nothing, key = np.zeros((10_000, 4), np.int64), RunKey(bytes(32))
    z = [
        add_noise_once(wide, r, nothing, key, attempt).reshape(-1) / (1.7 * GRID)
        for r, attempt in ((0, 0), (1, 0), (0, 1))
    ]
    for one in z:
        # the spread of 40,000 numbers has a standard error of 0.35 %
        assert abs(one.std() - 1) < 0.02 and abs(one.mean()) < 0.03
    assert abs(np.corrcoef(z)[np.triu_indices(3, 1)]).max() < 0.03
    again = add_noise_once(wide, 0, nothing, key, 0).reshape(-1) / (1.7 * GRID)
    assert np.array_equal(again, z[0])


def test_the_second_round_is_asked_around_noisy_means(monkeypatch):
    seen = []
    total = released.bounded_total

    def watched(moments, round_, pictures, label, owned, means=None, tell=None):
        seen.append(means)
        return total(moments, round_, pictures, label, owned, means)

    monkeypatch.setattr(released, "bounded_total", watched)
    latents, label, owned = world(7)
    noisy = release(OWN, Small(latents, SIDE), label, owned, RunKey(bytes(32)), 0)
    assert [one.shape for one in noisy] == [(3, 4), (3, 10)] and seen[0] is None
    assert np.array_equal(seen[1], class_means(OWN, noisy[0]))
    exact = total(OWN, 0, Small(latents, SIDE), label, owned)
    assert not np.allclose(seen[1], class_means(OWN, exact), atol=0.05)


def test_the_divisor_is_public():
    latents, owned = np.ones((4, *SHAPE), np.float16), [np.array([i]) for i in range(4)]
    labels = (np.array([0, 0, 0, 0]), np.array([0, -1, -1, -1]))
    four, one = (
        class_means(OWN, bounded_total(OWN, 0, Small(latents, SIDE), label, owned))
        for label in labels
    )
    assert np.allclose(four[0], 4 * one[0], atol=1e-5) and one[0].any()


def test_no_slot_changes_the_chunks(monkeypatch):
    shapes = []
    bounded = Moments.unit_rows

    def watched(self, vectors):
        shapes.append(vectors.shape)
        return bounded(self, vectors)

    monkeypatch.setattr(Moments, "unit_rows", watched)
    latents = np.ones((9, *SHAPE), np.float16)
    owned = [np.array([i]) for i in range(9)]
    for label in (np.zeros(9, int), np.array([0, -1, 0, 0, -1, 0, 0, 0, 0])):
        bounded_total(OWN, 0, Small(latents, SIDE), label, owned)
    assert shapes == [(9, 4), (9, 4)]
