"""The audit of votes: it passes on the code as it is, and sees a missing bound or noise."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.auditing import oneshot, voting
from sfumato.methods.evolution import voting as rounds
from sfumato.privacy.mechanisms.histogram import GRID, VoteHistogram
from sfumato.runs.matching import FORMER


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_votes_pass(which):
    query = voting.mechanisms()[which]
    assert oneshot.neighbours(query, 0).passed and oneshot.noise(query, 0, 1e-6).passed


def test_votes_of_a_run_of_before_pass_by_its_own_rule():
    assert oneshot.neighbours(voting.base_votes(by=FORMER), 0).passed


def test_a_missing_bound_is_seen(monkeypatch):
    monkeypatch.setattr(VoteHistogram, "unit_rows", lambda self, counts: counts * GRID)
    assert not oneshot.neighbours(voting.votes(1), 0).passed


def test_too_little_noise_is_seen(monkeypatch):
    monkeypatch.setattr(
        VoteHistogram, "noise_stddev", lambda self, sigma: int(np.ceil(0.95 * sigma * GRID))
    )
    assert not oneshot.noise(voting.votes(1), 0, 1e-6).passed


def test_no_noise_is_seen(monkeypatch):
    monkeypatch.setattr(rounds, "noisy_vector", lambda totals, *rest, **more: totals)
    assert not oneshot.noise(voting.votes(1), 0, 1e-6).passed
