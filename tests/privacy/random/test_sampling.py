"""Poisson sampling: rate, independence across units and steps, and every batch size allowed."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.sampling import poisson

KEY = RunKey(bytes(range(32)))


def test_rate_and_size_variance():
    n, q, steps = 500, 0.05, 2000
    included = np.zeros((steps, n))
    for step in range(steps):
        included[step, poisson(KEY, step, 0, n, q)] = 1
    assert abs(included.mean() - q) < 5 * np.sqrt(q * (1 - q) / included.size)
    # fixed-size batches would give 0
    assert abs(included.sum(1).var() / (n * q * (1 - q)) - 1) < 0.15
    assert np.abs(included.mean(0) - q).max() < 5 * np.sqrt(q * (1 - q) / steps)
    centred = included - q
    assert abs((centred[1:] * centred[:-1]).mean()) < 1e-3  # one step says nothing about the next


def test_indices_are_sorted_unique_and_reproducible():
    first = poisson(KEY, 3, 0, 1000, 0.3)
    assert first.dtype == np.int64 and (np.diff(first) > 0).all() and first.max() < 1000
    assert (poisson(KEY, 3, 0, 1000, 0.3) == first).all()
    assert poisson(KEY, 3, 1, 1000, 0.3).tolist() != first.tolist()


def test_every_draw_counts_whatever_its_size():
    """Empty ones and large ones too: a second draw, a cap or a pad would depend on the first."""
    sizes = []
    for step in range(400):
        words = KEY.stream("sample", step, 0).words(40)
        expected = [i for i, word in enumerate(words.tolist()) if word < int(0.05 * 2**64)]
        assert poisson(KEY, step, 0, 40, 0.05).tolist() == expected
        sizes.append(len(expected))
    assert sizes.count(0) > 20 and max(sizes) > 5  # two are expected


def test_edges():
    assert poisson(KEY, 0, 0, 10, 1.0).tolist() == list(range(10))
    assert poisson(KEY, 0, 0, 10, 1e-12).size == 0  # the empty batch is a batch
    words = KEY.stream("sample", 0, 0).words(10)
    assert poisson(KEY, 0, 0, 10, 0.5).tolist() == [
        i for i, word in enumerate(words.tolist()) if word < 2**63
    ]


@pytest.mark.parametrize("n, q", [(10, 0.0), (10, 1.1), (10, float("nan")), (0, 0.5), (2.0, 0.5)])
def test_refusals(n, q):
    with pytest.raises(ValueError):
        poisson(KEY, 0, 0, n, q)
