"""The audit of class moments: it passes on the code as it is, and sees a missing bound or noise."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.auditing import moments, oneshot
from sfumato.methods.warm_up import release
from sfumato.privacy.mechanisms.moments import GRID, Moments


@pytest.mark.parametrize("which", [0, 1])
def test_the_moments_pass(which):
    query = moments.mechanisms()[which]
    found = oneshot.neighbours(query, 0), oneshot.noise(query, 0, 1e-6)
    assert all(one.passed for one in found), found


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_bound_is_seen(monkeypatch, which):
    def unbounded(self, vectors):
        return np.nan_to_num(vectors * 1.01 * GRID).astype(np.int64)

    monkeypatch.setattr(Moments, "unit_rows", unbounded)
    assert not oneshot.neighbours(moments.sums(which), 0).passed


def test_too_little_noise_is_seen(monkeypatch):
    small = property(lambda self: int(np.ceil(0.95 * self.noise_multiplier * GRID)))
    monkeypatch.setattr(Moments, "noise_stddev", small)
    assert not oneshot.noise(moments.sums(0), 0, 1e-6).passed


def test_no_noise_is_seen(monkeypatch):
    monkeypatch.setattr(release, "noisy_vector", lambda totals, *rest, **more: totals)
    assert not oneshot.noise(moments.sums(1), 0, 1e-6).passed
