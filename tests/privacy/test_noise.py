"""Noise: the claimed standard deviation, per tensor name, once; and an exact discrete Gaussian for counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.privacy import noise
from sfumato.privacy.keys import RunKey

KEY = RunKey(bytes(range(32)))


def test_standard_deviation_and_independence_between_tensors_and_steps():
    zeros = {"a": torch.zeros(300, 400), "b": torch.zeros(300, 400)}
    first, second = noise.add_noise(zeros, KEY, 0, 0, 2.5), noise.add_noise(zeros, KEY, 1, 0, 2.5)
    for value in (*first.values(), *second.values()):
        assert value.dtype == torch.float32 and value.shape == (300, 400)
        assert abs(value.std().item() / 2.5 - 1) < 0.01
        assert stats.kstest(value.numpy().ravel() / 2.5, "norm").pvalue > 1e-4
        beyond = (value.abs() > 3 * 2.5).sum().item()  # 324 of 120,000 expected; no clamp, and no thin tail
        assert abs(beyond - 324) < 5 * 324**0.5 and value.abs().max() > 4 * 2.5
    flat = np.stack([first["a"].numpy().ravel(), first["b"].numpy().ravel(), second["a"].numpy().ravel()])
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.015


def test_noise_is_added_to_the_sum_and_is_independent_of_tensor_order():
    total = {"a": torch.full((3,), 7.0, dtype=torch.float64), "b": torch.ones(2, 2)}
    noisy = noise.add_noise(total, KEY, 5, 1, 0.1)
    swapped = noise.add_noise(dict(reversed(total.items())), KEY, 5, 1, 0.1)
    assert list(noisy) == ["a", "b"] and all((noisy[name] == swapped[name]).all() for name in noisy)
    expected = torch.full((3,), 7.0) + torch.from_numpy(
        (KEY.stream("noise", 5, 1, "a").normal(3) * 0.1).astype(np.float32)
    )
    assert (noisy["a"] == expected).all()
    assert total["a"].tolist() == [7.0] * 3  # the input stays as it was
    assert noise.add_noise({"s": torch.tensor(1.0)}, KEY, 0, 0, 1.0)["s"].shape == ()


def test_global_seed_does_not_reach_the_noise():
    draws = []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed)
        draws.append(noise.add_noise({"a": torch.zeros(8)}, KEY, 0, 0, 1.0)["a"])
        assert torch.initial_seed() == seed
    assert (draws[0] == draws[1]).all()


@pytest.mark.parametrize("stddev", [0.0, -1.0, float("nan"), float("inf")])
def test_add_noise_refuses(stddev):
    with pytest.raises(ValueError):
        noise.add_noise({"a": torch.zeros(2)}, KEY, 0, 0, stddev)
    with pytest.raises(ValueError):
        noise.add_noise({}, KEY, 0, 0, 1.0)


@pytest.mark.parametrize("sigma", [1, 3])
def test_discrete_gaussian_has_the_exact_law(sigma):
    coins = noise._Coins(KEY.stream("histogram", sigma, 0))
    draws = np.array([coins.discrete_gaussian(sigma) for _ in range(20_000)])
    support = np.arange(-12 * sigma, 12 * sigma + 1)
    law = np.exp(-(support**2) / (2 * sigma**2))
    law /= law.sum()
    common = law * len(draws) >= 5
    observed = np.array([(draws == x).sum() for x in support[common]])
    rest, rest_law = len(draws) - observed.sum(), 1 - law[common].sum()
    found = stats.chisquare([*observed, rest], np.array([*law[common], rest_law]) * len(draws))
    assert found.pvalue > 1e-4


def test_histogram_noise():
    noisy = noise.noisy_histogram([5] * 5000, 10.0, KEY)
    assert (noisy * noise.GRID == np.round(noisy * noise.GRID)).all()  # on the grid, exactly
    assert stats.kstest((noisy - 5) / 10, "norm").pvalue > 1e-4
    wide = noise.noisy_histogram([0] * 5000, 10.0, KEY, max_per_unit=4)
    assert abs(wide.std() / 40 - 1) < 0.05
    assert (noise.noisy_histogram([1, 2], 1.0, KEY) == noise.noisy_histogram(np.array([1, 2]), 1.0, KEY)).all()


@pytest.mark.parametrize(
    "counts, sigma, units", [([1.5], 1, 1), ([-1], 1, 1), ([1], 0, 1), ([1], float("nan"), 1), ([1], 1, 0)]
)
def test_histogram_refuses(counts, sigma, units):
    with pytest.raises(ValueError):
        noise.noisy_histogram(counts, sigma, KEY, max_per_unit=units)


def test_uniform_integers_of_any_width():
    coins = noise._Coins(KEY.stream("histogram", 9, 0))
    assert coins.below(1) == 0
    assert {coins.below(3) for _ in range(100)} == {0, 1, 2}
    wide = [coins.below(3 << 80) for _ in range(200)]
    assert max(wide) < 3 << 80 and max(wide) > 1 << 80


@pytest.mark.parametrize("sigma", [1, 3])
def test_rounded_gaussian_has_the_exact_law(sigma):
    """Every integer has the normal's own mass of the unit interval around it: what makes its price exact."""
    coins = noise._Coins(KEY.stream("aggregate", sigma, 0, "law"))
    draws = np.array([coins.rounded_gaussian(sigma) for _ in range(20_000)])
    support = np.arange(-12 * sigma, 12 * sigma + 1)
    law = stats.norm.cdf((support + 0.5) / sigma) - stats.norm.cdf((support - 0.5) / sigma)
    common = law * len(draws) >= 5
    observed = np.array([(draws == x).sum() for x in support[common]])
    rest, rest_law = len(draws) - observed.sum(), 1 - law[common].sum()
    found = stats.chisquare([*observed, rest], np.array([*law[common], rest_law]) * len(draws))
    assert found.pvalue > 1e-4


def test_noise_on_a_vector():
    stddev = 4_000_000
    noisy = noise.noisy_vector([7] * 6000, stddev, KEY, step=1, attempt=0, name="sum")
    assert noisy.dtype == np.int64
    assert stats.kstest((noisy - 7) / stddev, "norm").pvalue > 1e-4
    assert abs(noisy.std() / stddev - 1) < 0.03
    again = noise.noisy_vector([7] * 6000, stddev, KEY, step=1, attempt=0, name="sum")
    other = noise.noisy_vector([7] * 6000, stddev, KEY, step=1, attempt=0, name="control")
    assert (noisy == again).all() and abs(np.corrcoef(noisy, other)[0, 1]) < 0.05
    for totals, sd in (([0.5], 1), ([[1]], 1), ([1], 0), ([1], 1.5), ([1], True)):
        with pytest.raises(ValueError):
            noise.noisy_vector(totals, sd, KEY, step=1, attempt=0, name="sum")
