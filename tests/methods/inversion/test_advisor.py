"""The advisor's predictions against simulation, and its warnings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.methods.inversion.advisor import forecast

SIGMA = 3.7306  # epsilon 1, delta 1e-5


@pytest.mark.parametrize(
    "n, p, signal", [(50, 16, 0.4), (150, 64, 0.4), (400, 32, 0.2), (20, 8, 0.9)]
)
def test_prediction_agrees_with_simulation(n, p, signal):
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        common = rng.standard_normal(p)
        common *= signal / np.linalg.norm(common)
        rest = rng.standard_normal((n, p))
        rest *= np.sqrt(1 - signal**2) / np.linalg.norm(rest, axis=1, keepdims=True)
        mean = (common + rest).mean(0)
        noisy = mean + SIGMA / n * rng.standard_normal(p)
        found.append(mean @ noisy / np.linalg.norm(mean) / np.linalg.norm(noisy))
    said = forecast(noise_multiplier=SIGMA, units=n, dimensions=p, signal=signal)
    assert abs(said.cosine - np.mean(found)) < 0.06
    assert said.known and abs(said.snr - said.signal / said.noise) < 1e-9


def test_it_says_when_the_answer_will_be_noise_and_how_many_would_do():
    poor = forecast(noise_multiplier=SIGMA, units=10, dimensions=64)
    assert poor.cosine < 0.5 and "mostly noise" in poor.remark and not poor.known
    enough = forecast(noise_multiplier=SIGMA, units=poor.needed, dimensions=64)
    fewer = forecast(noise_multiplier=SIGMA, units=0.9 * poor.needed, dimensions=64)
    assert enough.cosine >= 0.75 > fewer.cosine and enough.remark is None and enough.needed is None
    assert (
        "noticeably"
        in forecast(noise_multiplier=SIGMA, units=0.8 * poor.needed, dimensions=64).remark
    )


def test_a_public_spectrum_can_only_help():
    flat = forecast(noise_multiplier=SIGMA, units=30, dimensions=8, signal=0.5)
    steep = forecast(
        noise_multiplier=SIGMA,
        units=30,
        dimensions=8,
        signal=0.5,
        spectrum=torch.tensor([1.0, 0.3, *[1e-3] * 6]),
    )
    assert steep.cosine > flat.cosine
