"""Pictures of class moments: what noise of known size hides is not drawn, and the rest is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.methods.warm_up.pictures import denoised, pictures_of, plain_pixels
from sfumato.methods.warm_up.release import Small, release
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.random.keys import RunKey


def symmetric(d: int, tau: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((d, d))
    return tau * (noise + noise.T) / np.sqrt(2)


def test_noise_alone_shows_no_direction_and_a_spike_keeps_its_size():
    d, tau = 200, 0.01
    assert denoised(symmetric(d, tau, 0), tau * 1.05).shape == (d, 0)
    way = np.zeros(d)
    way[3] = 1.0
    spike = 6 * tau * np.sqrt(d)
    found = denoised(spike * np.outer(way, way) + symmetric(d, tau, 1), tau * 1.05)
    assert found.shape == (d, 1)
    # the noisy eigenvalue itself is 3 % too large here
    assert abs((found**2).sum() / spike - 1) < 0.02 and abs(found[3, 0]) > 0.95 * np.sqrt(spike)
    clean = denoised(np.diag([4.0, 1.0]), 0.0)
    assert np.allclose(np.sort((clean**2).sum(0)), [1, 4])


def test_what_is_drawn_has_the_moments_of_the_images():
    rng = np.random.default_rng(0)
    n, label = 4000, np.arange(4000) % 2
    latents = np.zeros((n, 1, 4, 4))
    latents[:, 0, :2] = np.where(label == 0, 0.5, -0.5)[:, None, None]
    latents[:, 0, 2:, 2:] += 0.2 * rng.standard_normal((n, 1, 1))
    latents = latents.astype(np.float16)
    own = Moments(2, 4, 2, (2.0, 1.0), (2000.0, 2000.0), 0.01)
    noisy = release(
        own, Small(latents, 2), label, [np.array([i]) for i in range(n)], RunKey(bytes(32)), 0
    )
    found = pictures_of(own, noisy, (1, 4, 4), 2, clamped=True)
    assert found.clamped and [one.shape[1] for one in found.spread] == [1, 1]
    ask = torch.arange(2000) % 2
    drawn = found.draw(ask, torch.Generator().manual_seed(0))
    assert drawn.shape == (2000, 1, 4, 4) and float(drawn.abs().max()) <= 1
    for number, level in ((0, 0.5), (1, -0.5)):
        mine = drawn[ask == number, 0]
        assert abs(float(mine[:, 0].mean()) - level) < 0.1
        # scaling up by cubic curves carries corners a little further
        assert 0.17 < float(mine[:, 3, 3].std()) < 0.3
    same = found.draw(ask, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, same)
    means = Moments(2, 4, 1, (2.0,), (2000.0, 2000.0), 0.01)
    plain = pictures_of(means, noisy[:1], (4, 2, 2), 1)
    assert not plain.clamped and all(one.shape == (4, 0) for one in plain.spread)


@pytest.mark.parametrize(
    ("shape", "pixels"), [((3, 32, 32), True), ((1, 32, 32), True), ((3, 8, 8), False)]
)
def test_pixels_are_told_by_their_number_and_not_by_channels(shape, pixels):
    """The VQ model of a latent base has three channels, which end nowhere."""
    assert plain_pixels(SimpleNamespace(latent_shape=shape, resolution=32)) is pixels
