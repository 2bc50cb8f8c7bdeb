"""Pictures moved to class moments: what stands out of the noise moves them, the rest does not."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfumato.methods.warm_up.release import Small, class_sizes, release
from sfumato.methods.warm_up.transport import (
    carrying,
    cut,
    outstanding,
    smalls,
    standing_out,
    transport,
)
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.random.keys import RunKey

SHAPE, SIDE, N = (2, 2, 2), 2, 3000
MANY = Moments(2, 8, 2, (4.0, 3.0), (N / 2,) * 2, 0.5, counting=0.25)


def private(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents of two classes, one of them three times as many, and their labels."""
    rng = np.random.default_rng(seed)
    label = (np.arange(N) % 4 == 0).astype(int)
    spread = np.diag(np.linspace(0.3, 1.0, 8))
    x = rng.standard_normal((N, 8)) @ spread + np.where(label[:, None] == 0, 0.4, -0.4)
    return x.reshape(N, *SHAPE).astype(np.float32), label


def drawn(n: int = 2000, scale: float = 0.4) -> list[np.ndarray]:
    """A model's small pictures of both classes: narrower than the private ones, and elsewhere."""
    rng = np.random.default_rng(9)
    return [scale * rng.standard_normal((n, 8)) + at for at in (0.1, 0.0)]


def noisy_sums(own: Moments) -> list[np.ndarray]:
    latents, label = private()
    owned = [np.array([i]) for i in range(N)]
    return release(own, Small(latents, SIDE), label, owned, RunKey(bytes(32)), 0)


def test_pictures_get_the_mean_and_the_covariance_of_their_class():
    model, (latents, label) = drawn(), private()
    moves = transport(MANY, noisy_sums(MANY), model, SHAPE, SIDE)
    for number, own in enumerate(model):
        plain = torch.from_numpy(own).view(-1, *SHAPE)
        moved = moves(plain, np.full(len(own), number)).flatten(1).numpy()
        true = latents[label == number].reshape(-1, 8)
        assert np.abs(moved.mean(0) - true.mean(0)).max() < 0.1
        before = np.linalg.norm(np.cov(own.T) - np.cov(true.T))
        assert np.linalg.norm(np.cov(moved.T) - np.cov(true.T)) < 0.15 * before
        # a class of three times as many units is not taken for one three times as far away
        assert moved.mean(0)[0] == pytest.approx(0.4 if number == 0 else -0.4, abs=0.1)


def test_what_noise_hides_moves_nothing():
    loud = replace(MANY, noise_multiplier=300.0)
    moves = transport(loud, noisy_sums(loud), drawn(), SHAPE, SIDE)
    latents = torch.from_numpy(private(1)[0])
    same = moves(latents, np.zeros(N, np.int64))
    assert torch.allclose(same, latents, atol=1e-5)


def test_details_finer_than_small_pictures_stay():
    moves = transport(MANY, noisy_sums(MANY), drawn(), (2, 8, 8), SIDE)
    latents = torch.randn((4, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    moved = moves(latents, np.zeros(4, np.int64)) - latents
    assert moved.abs().max() > 0.1
    # what was added is smooth: nothing but the small picture scaled up
    size = (8, 8)
    again = F.interpolate(F.interpolate(moved, size=(2, 2), mode="area"), size=size, mode="bicubic")
    assert (moved - again).abs().max() < 0.5 * moved.abs().max()
    pixels = transport(MANY, noisy_sums(MANY), drawn(), SHAPE, SIDE, clamped=True)
    far = pixels(torch.full((1, *SHAPE), 5.0), np.zeros(1, np.int64))
    assert float(far.abs().max()) <= 1


def test_the_map_carries_one_covariance_to_the_other():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((30, 6)) for _ in range(2))
    own, wanted = a.T @ a / 30, np.eye(6) + b.T @ b / 10
    found = carrying(own, wanted)
    assert np.allclose(found, found.T) and np.linalg.eigvalsh(found).min() > 0
    assert np.allclose(found @ own @ found, wanted, atol=1e-6)
    assert np.allclose(carrying(own, own), np.eye(6), atol=1e-6)
    # no direction is made flat by a covariance that noise made negative, and none out of nothing
    worst = carrying(own, own - 2 * np.eye(6))
    assert np.linalg.eigvalsh(worst @ own @ worst) == pytest.approx(np.linalg.eigvalsh(own)[0])
    narrow = np.diag([1.0, 1.0, 1e-4])
    assert np.array_equal(carrying(narrow, narrow), np.eye(3))
    # what stands out in one direction does not lift another in which the model hardly varies
    narrow = carrying(np.diag([1.0, 1e-4]), np.diag([4.0, 1e-4]))
    assert np.allclose(narrow, np.diag([2.0, 1.0]))
    flat = carrying(np.diag([1.0, 0.0]), np.diag([4.0, 9.0]))
    assert np.allclose(flat, np.diag([2.0, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(carrying(np.zeros((2, 2)), np.eye(2)), np.eye(2))


def test_eigenvalues_within_the_noise_are_none_and_others_lose_what_it_added():
    rng, d, tau = np.random.default_rng(2), 150, 0.02
    noise = tau * (lambda z: (z + z.T) / np.sqrt(2))(rng.standard_normal((d, d)))
    assert not standing_out(noise, 1.05 * tau).any()
    way = np.zeros(d)
    way[5] = 1.0
    spike = -5 * tau * np.sqrt(d) * np.outer(way, way)  # narrower than the model
    found = standing_out(spike + noise, 1.05 * tau)
    assert np.linalg.eigvalsh(found)[0] == pytest.approx(spike[5, 5], rel=0.05)


def test_a_mean_within_the_noise_is_none():
    assert not outstanding(np.ones(4), 5.0).any() and not outstanding(np.zeros(4), 0.0).any()
    assert np.allclose(outstanding(np.ones(4), 1.0), 0.75)
    assert np.allclose(np.linalg.norm(cut(np.eye(3) * [[3], [1], [0]], 2.0), axis=1), [2, 1, 0])


def test_small_pictures_are_those_of_the_mechanism():
    latents = private()[0][:5].repeat(2, axis=2).repeat(2, axis=3)
    own = Small(latents, SIDE)[np.arange(5)]
    assert np.allclose(smalls(torch.from_numpy(latents), SIDE).numpy(), own)


def test_sizes_follow_the_counts_as_far_as_these_tell():
    sums = noisy_sums(MANY)
    assert np.allclose(class_sizes(MANY, sums[0]), [0.75 * N, 0.25 * N], rtol=0.01)
    loud = replace(MANY, noise_multiplier=1e5)
    assert np.allclose(class_sizes(loud, sums[0]), N / 2, rtol=0.01)
    before = replace(MANY, counting=0.0)
    assert class_sizes(before, sums[0][:, :-1]).tolist() == [N / 2, N / 2]
    none = sums[0].copy()
    none[:, -1] = -(10**9)
    assert np.allclose(class_sizes(MANY, none), 0.1 * N / 2)
