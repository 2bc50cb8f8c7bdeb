"""One round's votes: the nearest of the own class, whatever else is there; and noise of its own."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.methods.evolution import voting
from sfumato.methods.evolution.voting import nearest, noisy_votes
from sfumato.privacy.mechanisms.histogram import GRID, VoteHistogram
from sfumato.privacy.random.keys import RunKey

OWN = VoteHistogram(12, 3, 1, "dummy")


def world(seed: int = 0, n: int = 40, votes: int = 1):
    rng = np.random.default_rng(seed)
    own = VoteHistogram(12, 3, votes, "dummy")
    features = rng.standard_normal((n, 6)).astype(np.float32)
    label, table = rng.integers(0, 3, n), rng.standard_normal((12, 6)).astype(np.float32)
    return own, features, label, np.arange(n), table


@pytest.mark.parametrize("votes", [1, 2])
def test_an_image_names_the_nearest_candidates_of_its_class(votes):
    own, features, label, order, table = world(votes=votes)
    named = nearest(own, features, label, order, table)
    for row, mark, said in zip(features, label, named):
        far = np.linalg.norm(table[4 * mark : 4 * mark + 4] - row, axis=1)
        assert said.tolist() == (4 * mark + np.argsort(far)[:votes]).tolist()


def test_what_has_no_class_or_no_features_names_nothing_and_moves_no_other():
    own, features, label, order, table = world()
    before = nearest(own, features, label, order, table)
    features[3], features[4, 2], label[5] = np.inf, np.nan, -1
    features[6] = 1e38
    after = nearest(own, features, label, order, table)
    assert (after[[3, 4, 5]] == -1).all() and (after[6] >= 0).all()
    rest = np.setdiff1d(np.arange(40), [3, 4, 5, 6])
    assert np.array_equal(before[rest], after[rest])


def test_a_unit_out_leaves_all_other_votes_to_the_last_bit(monkeypatch):
    """Ties at rounding's reach: candidates that differ in the last bits of a distance."""
    monkeypatch.setattr(voting, "CHUNK", 16)
    own, features, label, order, table = world(3)
    table[1::4] = table[0::4] + np.float32(1e-6)
    table[2::4] = table[0::4] - np.float32(1e-6)
    before = nearest(own, features, label, order, table)
    for out in range(len(label)):
        gone, marks = features.copy(), label.copy()
        gone[out], marks[out] = 0, -1
        after = nearest(own, gone, marks, order, table)
        kept = np.arange(len(label)) != out
        assert np.array_equal(before[kept], after[kept]) and (after[out] == -1).all()


def test_no_slot_changes_the_chunks(monkeypatch):
    """The shapes of all products are the same for neighbours, so rounding is, too."""
    monkeypatch.setattr(voting, "CHUNK", 16)
    own, features, label, order, table = world()

    seen: list[int] = []
    asarray = np.asarray

    def watch(part, *rest):
        if part.ndim == 2 and part.shape[1] == features.shape[1]:
            seen.append(len(part))
        return asarray(part, *rest)

    monkeypatch.setattr(voting.np, "asarray", watch)
    nearest(own, features, label, order, table)
    whole, seen[:] = list(seen), []
    label[::2] = -1
    nearest(own, features, label, order, table)
    assert whole == seen == [16, 16, 8]


def test_every_round_and_attempt_has_its_own_noise():
    own = VoteHistogram(30_000, 3, 1, "dummy")
    key, nobody, owned = RunKey.generate(), np.full((1, 1), -1), [np.arange(1)]
    sums = [
        noisy_votes(own, 1.5, nobody, owned, key, step, attempt) / GRID
        for step, attempt in ((0, 0), (1, 0), (0, 1))
    ]
    for noise in sums:
        assert abs(noise.std() / 1.5 - 1) < 0.025
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(np.corrcoef(sums[i], sums[j])[0, 1])) < 0.03
    again = noisy_votes(own, 1.5, nobody, owned, key, 0, 0) / GRID
    assert np.array_equal(sums[0], again)
