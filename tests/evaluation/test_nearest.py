"""Distances of released pictures to private and held-out ones: a model that memorised nothing looks
alike on both, copies are found, and units are dealt whole.
"""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.errors import SfumatoError
from sfumato.evaluation.nearest import Share, nearness


def drawn(seed: int, units: int, each: int = 2, d: int = 12):
    """Pictures of units: each unit has a place of its own, and its pictures lie around it."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), each)
    return rng.normal(size=(units, d))[unit] + 0.2 * rng.normal(size=(len(unit), d)), unit


def compared(released, train, test, **said):
    return nearness(released, train[0], test[0], train[1], test[1], features="places", **said)


@pytest.fixture(scope="module")
def sides():
    return drawn(1, 60), drawn(2, 40)


def test_pictures_of_nobody_are_as_near_to_both(sides):
    released = np.random.default_rng(3).normal(size=(150, 12))
    found = compared(released, *sides)
    assert found.units == 40 and found.released == 150
    assert found.expected[0] < found.nearer.value < found.expected[1] and found.p > 0.05
    assert found.nearer.low < found.nearer.value < found.nearer.high
    assert not found.memorised and found.to_train.low <= found.to_train.value


def test_a_false_alarm_is_as_rare_as_it_says(sides):
    """Dealt by lot: p is at most 0.1 in about a tenth of the cases."""
    rng, places = np.random.default_rng(0), drawn(5, 40)
    seen = []
    for i in range(40):
        order = rng.permutation(40)
        train = [np.isin(places[1], order[:20]), np.isin(places[1], order[20:])]
        parts = [(places[0][own], places[1][own]) for own in train]
        seen.append(compared(rng.normal(size=(60, 12)), *parts, seed=i).p)
    assert 0 <= sum(p <= 0.1 for p in seen) <= 10 and 0.25 < float(np.median(seen)) < 0.75


def test_copies_of_private_pictures_are_found_and_those_of_held_out_ones_are_the_control(sides):
    rng = np.random.default_rng(4)
    (train, units), (test, _) = sides
    copies = train[::2][:40] + 1e-3 * rng.normal(size=(40, 12))
    released = np.concatenate([rng.normal(size=(60, 12)), copies])
    found = compared(released, *sides)
    assert found.copies.value == pytest.approx(0.4, abs=0.03) and found.control.value < 0.05
    assert found.copies.low < 0.4 < found.copies.high
    assert found.memorised and found.p < 0.05
    assert set(np.argsort(found.ratio)[:40]) == set(range(60, 100))
    assert (found.nearest[60:] == np.arange(0, 80, 2)).all()
    other = compared(np.concatenate([rng.normal(size=(60, 12)), test[:40]]), *sides)
    assert other.control.value > 0.3 and other.p > 0.5 and not other.memorised


def test_of_equally_near_pictures_any_is_the_nearest(sides):
    """Held-out pictures that are the private ones again: nobody is nearer to either."""
    train, _ = sides
    found = compared(np.random.default_rng(6).normal(size=(200, 12)), train, train)
    assert found.expected[0] <= found.nearer.value <= found.expected[1]
    assert not found.memorised


def test_a_share_of_none_and_of_all_has_an_interval(sides):
    found = compared(np.random.default_rng(3).normal(size=(30, 12)), *sides)
    assert found.copies == Share(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    all_of_them = compared(sides[0][0][:30], *sides)
    assert all_of_them.copies.value == 1 and all_of_them.copies.high == 1


@pytest.mark.parametrize("few", ["released", "train", "test"])
def test_too_few_are_refused(sides, few):
    (train, test), released = sides, np.zeros((10, 12))
    small = (train[0][:4], train[1][:4])
    words = {"released": released, "train": train, "test": test}
    words |= {few: released[:2] if few == "released" else small}
    with pytest.raises(SfumatoError, match="at least three released pictures"):
        compared(*words.values())


def test_each_picture_has_its_own_distances(sides):
    released = np.random.default_rng(3).normal(size=(9, 12))
    found = compared(released, *sides)
    for i, place in enumerate(released):
        for real, nearest, distance in (
            (sides[0][0], found.nearest, found.distance),
            (sides[1][0], found.nearest_test, found.distance_test),
        ):
            every = np.linalg.norm(real - place, axis=1)
            assert nearest[i] == every.argmin()
            assert distance[i] == pytest.approx(every.min(), rel=1e-4)
