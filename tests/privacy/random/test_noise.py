"""Noise: integers of the claimed variance, one stream per address, on every path that adds it;
nothing of a float's low bits.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.privacy.random import gaussian, noise
from sfumato.privacy.random.keys import RunKey

KEY = RunKey(bytes(range(32)))
ADDERS = {  # each: zeros of this shape -> noise in standard deviations
    "integers": lambda zeros, step: {
        name: value.double() / 2500
        for name, value in noise.add_integer_noise(
            {name: value.long() for name, value in zeros.items()},
            KEY,
            step,
            0,
            multiplier=2.5,
            bound=1000,
        ).items()
    },
    "floats": lambda zeros, step: {
        k: v.double() / 2.5 for k, v in noise.add_noise(zeros, KEY, step, 0, 2.5).items()
    },
}


@pytest.mark.parametrize("way", ADDERS)
def test_standard_deviation_and_independence_between_tensors_and_steps(way):
    zeros = {"a": torch.zeros(300, 400), "b": torch.zeros(300, 400)}
    first, second = ADDERS[way](zeros, 0), ADDERS[way](zeros, 1)
    for value in (*first.values(), *second.values()):
        assert value.shape == (300, 400) and abs(value.std().item() - 1) < 0.01
        assert stats.kstest(value.numpy().ravel(), "norm").pvalue > 1e-4
        # 324 of 120,000 expected; no clamp, and no thin tail
        beyond = (value.abs() > 3).sum().item()
        assert abs(beyond - 324) < 5 * 324**0.5 and value.abs().max() > 4
    flat = np.stack(
        [first["a"].numpy().ravel(), first["b"].numpy().ravel(), second["a"].numpy().ravel()]
    )
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.015
    shifted = (
        np.corrcoef(flat[0][:-1], flat[0][1:])[0, 1],
        np.corrcoef(flat[0][:-2], flat[0][2:])[0, 1],
    )
    assert np.abs(shifted).max() < 0.015  # neighbours, and neighbours' neighbours


def test_integers_of_the_exact_variance():
    assert noise.variance_of(1.5, 1000) == 1500**2 + 4
    # the double nearest to 0.1, not 1/10
    assert noise.variance_of(0.1, 10) == (Fraction(0.1) * 10) ** 2 + 4
    zeros = {"w": torch.zeros(1_000_000, dtype=torch.int64)}
    for multiplier, bound in ((0.2, 3), (1.0, 50), (1.0, 40_000), (9.814, 3_000_000)):
        values = noise.add_integer_noise(zeros, KEY, 0, 0, multiplier=multiplier, bound=bound)["w"]
        wanted = math.sqrt((multiplier * bound) ** 2 + 4)
        assert values.dtype == torch.int64
        assert abs(values.double().std().item() / wanted - 1) < 4.5 / math.sqrt(2e6)


def test_noise_is_added_to_the_sum_and_is_independent_of_tensor_order():
    total = {"a": torch.tensor([7, -7, 1 << 40]), "b": torch.ones(2, 2, dtype=torch.int64)}
    zeros = {name: torch.zeros_like(value) for name, value in total.items()}
    noisy = noise.add_integer_noise(total, KEY, 5, 1, multiplier=2.0, bound=300)
    alone = noise.add_integer_noise(
        dict(reversed(zeros.items())), KEY, 5, 1, multiplier=2.0, bound=300
    )
    assert list(noisy) == ["a", "b"] and all(
        (noisy[name] == total[name] + alone[name]).all() for name in noisy
    )
    assert total["a"].tolist() == [7, -7, 1 << 40]  # the input stays as it was
    scalar = noise.add_integer_noise({"s": torch.tensor(1)}, KEY, 0, 0, multiplier=1.0, bound=9)[
        "s"
    ]
    assert scalar.shape == () and scalar.dtype == torch.int64


def test_any_part_of_a_tensor_gets_the_same_numbers():
    variance = noise.variance_of(3.0, 100_000)
    whole = noise.integers(variance, 50_000, KEY, "noise", 2, 0, "w")
    for start, size in ((0, 7), (1, 20_000), (16_383, 5), (49_999, 1)):
        part = noise.integers(variance, size, KEY, "noise", 2, 0, "w", start)
        assert (part == whole[start : start + size]).all()


def test_a_golden_vector_holds_on_every_machine():
    cases = {
        (0.5, 100): [-51, 49, -63, 126, -1, -57, -44, 12],
        (4.0, 100_000): [394683, 1008616, -451821, 94654, 225382, 109915, -237108, 90505],
        (10.0, 80_000_000): [
            -1005569397,
            -903615297,
            -262249923,
            218269660,
            -29931210,
            -517709864,
            317924524,
            647813237,
        ],
    }
    zeros = {"layer.weight": torch.zeros(8, dtype=torch.int64)}
    for (multiplier, bound), expected in cases.items():
        values = noise.add_integer_noise(zeros, KEY, 3, 1, multiplier=multiplier, bound=bound)[
            "layer.weight"
        ]
        assert values.tolist() == expected


def test_a_tie_asks_a_stream_of_its_own(monkeypatch):
    """A word equal to a threshold's digits goes on with the words of (ties, step, attempt,
    purpose/name/offset/term).
    """
    variance, asked = noise.variance_of(1.0, 100), []
    table = gaussian.discrete_gaussian(variance).table
    real = RunKey.stream

    class Tied:
        def words(self, n):
            words = np.full(n, 1 << 40, dtype=np.uint64)
            words[3:4] = np.uint64(int(table.thresholds[60]) << 1)
            return words

    def stream(self, purpose, step, attempt, name="", start=0):
        asked.append((purpose, step, attempt, name))
        return Tied() if purpose == "noise" else real(self, purpose, step, attempt, name, start)

    monkeypatch.setattr(RunKey, "stream", stream)
    values = noise.integers(variance, 5, KEY, "noise", 6, 2, "a/b")
    assert asked[1:] == [("ties", 6, 2, "noise/a/b/3/0")]
    assert values[3] in (60, 61) and (np.delete(values, 3) == values[0]).all()


def test_the_addition_is_modulo_and_nothing_looks_at_the_sums():
    edge = {"w": torch.full((64,), 2**63 - 1)}
    noisy = noise.add_integer_noise(edge, KEY, 0, 0, multiplier=1.0, bound=10)["w"]
    plain = noise.add_integer_noise(
        {"w": torch.zeros(64, dtype=torch.int64)}, KEY, 0, 0, multiplier=1.0, bound=10
    )["w"]
    assert ((noisy - edge["w"]) == plain).all() and (noisy < 0).any()


def test_global_seed_does_not_reach_the_noise():
    draws = []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed)
        draws.append(
            noise.add_integer_noise(
                {"a": torch.zeros(8).long()}, KEY, 0, 0, multiplier=1.0, bound=99
            )["a"]
        )
        assert torch.initial_seed() == seed
    assert (draws[0] == draws[1]).all()


@pytest.mark.parametrize("stddev", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_without_a_size_is_refused(stddev):
    with pytest.raises(ValueError):
        noise.add_noise({"a": torch.zeros(2)}, KEY, 0, 0, stddev)
    with pytest.raises(ValueError):
        noise.add_noise({}, KEY, 0, 0, 1.0)
    with pytest.raises(ValueError):
        noise.add_integer_noise(
            {"a": torch.zeros(2).long()}, KEY, 0, 0, multiplier=stddev, bound=10
        )


def test_integer_noise_refuses():
    whole = {"a": torch.zeros(2, dtype=torch.int64)}
    for sums, multiplier, bound in (
        ({}, 1.0, 10),
        ({"a": torch.zeros(2)}, 1.0, 10),
        ({"a": whole["a"].int()}, 1.0, 9),
    ):
        with pytest.raises(ValueError):
            noise.add_integer_noise(sums, KEY, 0, 0, multiplier=multiplier, bound=bound)
    for multiplier, bound in ((True, 9), (1.0, 0), (1.0, 2.5), (1.0, True), (10.0, 1 << 57)):
        with pytest.raises(ValueError):
            noise.add_integer_noise(whole, KEY, 0, 0, multiplier=multiplier, bound=bound)


def test_float_sums_come_out_on_a_public_grid():
    stddev, step = 0.7, 2.0**-41
    total = {
        "w": torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    }
    plain = noise.add_noise({"w": torch.zeros(4000)}, KEY, 1, 0, stddev)["w"].double()
    noisy = noise.add_noise(total, KEY, 1, 0, stddev)["w"]
    assert noisy.dtype == torch.float32
    # the same integers were added: the difference is the sum, but for float32's last place
    assert torch.allclose(noisy.double() - plain, total["w"], atol=1e-6)
    tiny = noise.add_noise({"w": torch.full((4000,), 0.4 * step)}, KEY, 1, 0, stddev)["w"].double()
    assert (tiny == plain).all()  # less than half a step is nothing
    odd = noise.add_noise(
        {"w": torch.tensor([float("nan"), float("inf"), -1e30, 1e30])}, KEY, 1, 0, stddev
    )["w"]
    assert odd.isfinite().all() and odd[0].abs() < 10 * stddev and (odd[1:].abs() > 1e5).all()


def test_histogram_noise():
    noisy = noise.noisy_histogram([5] * 5000, 10.0, KEY)
    assert (noisy * noise.GRID == np.round(noisy * noise.GRID)).all()  # on the grid, exactly
    assert stats.kstest((noisy - 5) / 10, "norm").pvalue > 1e-4
    wide = noise.noisy_histogram([0] * 5000, 10.0, KEY, max_per_unit=4)
    assert abs(wide.std() / 40 - 1) < 0.05
    assert (
        noise.noisy_histogram([1, 2], 1.0, KEY) == noise.noisy_histogram(np.array([1, 2]), 1.0, KEY)
    ).all()


@pytest.mark.parametrize(
    "counts, sigma, units",
    [([1.5], 1, 1), ([-1], 1, 1), ([1], 0, 1), ([1], float("nan"), 1), ([1], 1, 0)],
)
def test_histogram_refuses(counts, sigma, units):
    with pytest.raises(ValueError):
        noise.noisy_histogram(counts, sigma, KEY, max_per_unit=units)


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


@pytest.mark.parametrize("one_shot", ["histogram", "scores", "vector"])
def test_one_shot_noise_holds_its_smoothing_variance(one_shot):
    """At an sd of one grid unit the 4 units of variance that pay for discreteness are most of what
    there is.
    """
    zeros = [0] * 400_000
    if one_shot == "histogram":
        values = noise.noisy_histogram(zeros, 1 / noise.GRID, KEY) * noise.GRID
    elif one_shot == "scores":
        values = noise.noisy_scores(zeros, 1, KEY, step=0, attempt=0)
    else:
        values = noise.noisy_vector(zeros, 1, KEY, step=0, attempt=0, name="sum")
    assert abs(values.var() / 5 - 1) < 0.015


def test_a_part_of_a_tensor_has_the_noise_of_its_own_numbers():
    """Where ranks share a tensor: the parts together have the noise of the whole."""
    whole = {"a": torch.zeros(1000, 50, dtype=torch.int64), "b": torch.zeros(7, dtype=torch.int64)}
    how = {"multiplier": 2.5, "bound": 1000}
    expected = noise.add_integer_noise(whole, KEY, 3, 1, **how)
    for start, end in ((0, 333), (333, 1000), (1000, 1000)):
        part = {"a": whole["a"][start:end], "b": whole["b"]}
        got = noise.add_integer_noise(part, KEY, 3, 1, **how, starts={"a": start * 50})
        assert torch.equal(got["a"], expected["a"][start:end])
        assert torch.equal(got["b"], expected["b"])
