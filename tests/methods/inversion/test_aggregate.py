"""The noisy mean: units before bound, classes apart, noise as claimed, and clean-up that helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.methods.inversion import aggregate
from sfumato.methods.inversion.geometry import Geometry
from sfumato.privacy.mechanisms.mean import GRID, Aggregation
from sfumato.privacy.random.keys import RunKey

KEY = RunKey(bytes(range(32)))


def geometry(p=8, classes=1, spectrum=None):
    return Geometry(torch.zeros(classes, 16) + 0.5, torch.eye(16)[:, :p], 2.0, 1, spectrum)


def rule(blocks=1, p=8, shrink=False, n=40.0, kind="clip"):
    return Aggregation(
        kind,
        blocks,
        p,
        1,
        "vocabulary" if kind == "clip" else "none",
        shrink,
        (n / blocks,) * blocks,
    )


def test_units_are_averaged_before_the_bound_and_fill_only_their_classes():
    vectors = np.arange(40.0).reshape(5, 8)
    vectors[4] = np.nan
    label = np.array([0, 1, 0, -1, 1])
    rows = aggregate.unit_vectors(
        rule(2),
        vectors,
        label,
        [np.array([0, 2]), np.array([1, 4]), np.array([3]), np.array([], int)],
    )
    assert np.allclose(rows[0, :8], (vectors[0] + vectors[2]) / 2) and not rows[0, 8:].any()
    assert np.allclose(rows[1, 8:], vectors[1]) and not rows[1, :8].any()
    assert not rows[2].any() and not rows[3].any()


def test_no_unit_moves_the_total_by_more_than_the_bound():
    """500 neighbours: a unit of several images in several classes is emptied, or filled with
    anything.
    """
    rng = np.random.default_rng(0)
    vectors, label = 5 * rng.standard_normal((60, 8)), rng.integers(0, 3, 60)
    owned = [np.arange(3 * u, 3 * u + 3) for u in range(20)]
    own = rule(3)
    whole, moves = aggregate.bounded_total(own, 2.0, vectors, label, owned), []
    for trial in range(500):
        changed, marks = vectors.copy(), label.copy()
        images = owned[int(rng.integers(20))]
        if trial % 3 == 0:
            marks[images] = -1
        else:
            changed[images] = (np.nan, np.inf)[trial % 3 - 1]
        moved = aggregate.bounded_total(own, 2.0, changed, marks, owned) - whole
        moves.append(sum(int(x) ** 2 for x in moved))
        assert moves[-1] <= GRID**2
    assert max(moves) > 0.99 * GRID**2


def test_measured_noise_is_what_is_claimed():
    own, clip_norm, sigma = rule(40, 8, n=40.0 * 25), 2.0, 3.7306
    noisy = aggregate.add_noise_once(own, sigma, np.zeros(own.numbers, np.int64), KEY, 0)
    mean = (
        aggregate.embeddings(own, geometry(classes=40), clip_norm, sigma, noisy)[:, 0, :8].double()
        - 0.5
    )
    claimed = sigma * clip_norm / 25
    assert abs(float(mean.std()) / claimed - 1) < 0.12  # 320 numbers
    other = aggregate.add_noise_once(own, sigma, np.zeros(own.numbers, np.int64), KEY, 0, "control")
    assert abs(np.corrcoef(noisy, other)[0, 1]) < 0.2 and not (noisy == other).any()


def test_without_noise_the_mean_comes_out():
    vectors = np.random.default_rng(1).standard_normal((40, 8)) * 0.1
    total = aggregate.bounded_total(
        rule(), 2.0, vectors, np.zeros(40, int), [np.array([i]) for i in range(40)]
    )
    mean = aggregate.embeddings(rule(), geometry(), 2.0, 0.0, total)
    assert np.allclose(mean[0, 0, :8] - 0.5, vectors.mean(0), atol=1e-5) and torch.equal(
        mean[0, 0, 8:], torch.full((8,), 0.5)
    )


@pytest.mark.parametrize(
    "spectrum", [None, torch.tensor([1.0, 0.5, 0.1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])]
)
def test_shrinking_brings_the_answer_nearer(spectrum):
    rng, errors, cosines = (
        np.random.default_rng(2),
        {True: 0.0, False: 0.0},
        {True: 0.0, False: 0.0},
    )
    scale = np.full(8, 0.3) if spectrum is None else spectrum.numpy() ** 0.5
    for trial in range(60):
        truth = rng.standard_normal(8) * scale
        total = np.rint(truth * 40 * GRID / 2.0).astype(np.int64)
        for shrink in (True, False):
            own = rule(shrink=shrink)
            noisy = aggregate.add_noise_once(own, 10.0, total, KEY, trial)
            got = (
                aggregate.embeddings(own, geometry(spectrum=spectrum), 2.0, 10.0, noisy)[0, 0, :8]
                - 0.5
            ).numpy()
            errors[shrink] += np.square(got - truth).sum()
            cosines[shrink] += got @ truth / max(np.linalg.norm(got) * np.linalg.norm(truth), 1e-12)
    assert errors[True] < 0.9 * errors[False]
    assert spectrum is None or cosines[True] > cosines[False]


def test_unit_vectors_come_back_at_the_length_of_a_word():
    own = rule(p=16, kind="unit")
    z = np.random.default_rng(3).standard_normal((4, 16)).astype(np.float32)
    place = Geometry(torch.full((1, 16), 0.25), torch.eye(16), 2.0, 1)
    said = aggregate.vector_of(own, place, z, np.zeros(4, int))
    assert np.allclose(said, z)
    total = aggregate.bounded_total(
        own, 1.0, said, np.zeros(4, int), [np.array([i]) for i in range(4)]
    )
    out = aggregate.embeddings(own, place, 1.0, 0.0, total)
    wanted = (said / np.linalg.norm(said, axis=1, keepdims=True)).mean(0)
    assert abs(float(out.norm()) - 2.0) < 1e-5
    assert np.dot(out[0, 0], wanted) / np.linalg.norm(wanted) > 1 - 1e-6


def test_residuals_are_projected_on_the_public_axes():
    place = geometry(p=8)
    rng = np.random.default_rng(4)
    z, label = rng.standard_normal((5, 8)).astype(np.float32), np.zeros(5, int)
    inside = place.embeddings(torch.from_numpy(z), torch.from_numpy(label)).flatten(1).numpy()
    off = rng.standard_normal(inside.shape)
    off -= off @ place.basis.numpy() @ place.basis.numpy().T
    assert np.allclose(aggregate.vector_of(rule(), place, inside + off, label), z, atol=1e-5)


def test_a_mean_is_no_longer_than_what_it_is_of():
    place = geometry()
    loud = np.full(8, 10**7)
    found = aggregate.embeddings(rule(n=1.0), place, 0.5, 3.0, loud)
    away = (found.flatten(1) - place.anchor[:1]).norm()
    assert float(away) == pytest.approx(0.5, rel=1e-5)
