"""The probe's spec: bounded integer scores whatever the gradients are, exact noise, and a choice
that is post-processing.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sfumato.privacy.mechanisms.votes import STEP, Probe
from sfumato.privacy.random.keys import RunKey
from sfumato.privacy.random.noise import noisy_scores

KEY = RunKey(bytes(range(32)))
GROUPS = tuple(f"m{i}" for i in range(12))
VOTES = Probe(GROUPS, 4, "votes", 4, None, False, 50.0, 2, 3.0, 1.0)
SQUARES = Probe(GROUPS, 4, "squares", None, None, False, 50.0, 2, 3.0, 1.0)
CLIPPED = replace(SQUARES, clip_norm=2.0)


def norm(scores: torch.Tensor, probe: Probe) -> torch.Tensor:
    """L2 norm of each row, in units of the score."""
    return scores.double().norm(dim=-1) * probe.grid


def test_the_sensitivity_is_the_square_of_the_clip_norm_and_the_root_of_the_votes():
    assert VOTES.sensitivity == 2.0 and SQUARES.sensitivity == 1.0 and CLIPPED.sensitivity == 4.0
    assert (
        VOTES.noise_stddev * VOTES.grid >= 3.0 * 2
        and CLIPPED.noise_stddev * CLIPPED.grid >= 3.0 * 4
    )
    for probe in (VOTES, SQUARES, CLIPPED):
        assert probe.sensitivity / probe.grid >= 1024  # privacy.md asks for at least so fine a grid


@pytest.mark.parametrize(
    "probe", [VOTES, replace(VOTES, votes=7), SQUARES, CLIPPED], ids=lambda p: p.score
)
def test_no_unit_exceeds_the_bound_whatever_its_gradient(probe):
    rng = np.random.default_rng(0)
    rows = [10.0 ** rng.uniform(-300, 300, len(GROUPS)) for _ in range(500)]
    rows += [10.0 ** rng.uniform(-2, 2, len(GROUPS)) for _ in range(500)]
    rows += [np.eye(len(GROUPS))[i] * 10.0**p for i in range(12) for p in (-320, -30, 0, 30, 300)]
    rows += [np.full(len(GROUPS), v) for v in (1e-320, 1 / 3, 1.0, 1e300)]
    scores = probe.unit_scores(torch.tensor(np.array(rows)))
    assert scores.dtype == torch.int64 and (scores >= 0).all()
    assert float(norm(scores, probe).max()) <= probe.sensitivity
    if probe.score == "squares":
        # the L1 norm is what bounds the L2 norm: shares never add up to more than the whole
        assert int(scores.sum(1).max()) <= 1 << 20 and int(scores.sum(1).max()) > (1 << 20) - 20


@pytest.mark.parametrize("probe", [VOTES, SQUARES, CLIPPED], ids=lambda p: p.score)
def test_a_broken_unit_adds_exactly_zero_and_spoils_no_other(probe):
    good = torch.rand(6, len(GROUPS), dtype=torch.float64) + 0.1
    spoilt = good.clone()
    spoilt[1, 3], spoilt[2, :], spoilt[3, 0], spoilt[4, 5], spoilt[5] = (
        math.nan,
        math.inf,
        -1.0,
        1.7e308,
        0.0,
    )
    spoilt[4, 6] = 1.7e308  # the sum overflows
    scores = probe.unit_scores(spoilt)
    assert torch.equal(scores[0], probe.unit_scores(good)[0]) and not scores[1:].any()


def test_votes_go_to_the_largest_norms_once_each_ties_by_place():
    squares = torch.tensor([[0.0, 3, 1, 2, 9, 0, 0, 0, 0, 0, 0, 0], [1.0] * 12, [0.0] * 11 + [5.0]])
    scores = VOTES.unit_scores(squares) // 1024
    assert scores[0].tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert scores[1].tolist() == [1] * 4 + [0] * 8 and scores[2].tolist() == [0] * 11 + [1]


def test_squares_are_shares_or_clipped():
    squares = torch.zeros(2, 12, dtype=torch.float64)
    squares[0, :2], squares[1, :2] = (
        torch.tensor([9.0, 27.0]).double(),
        torch.tensor([0.25, 0.75]).double(),
    )
    shares = SQUARES.unit_scores(squares)[:, :2] * SQUARES.grid
    assert torch.allclose(shares.double(), torch.tensor([[0.25, 0.75]] * 2).double(), atol=1e-5)
    # norm 6 is clipped to 2, norm 1 stays
    clipped = CLIPPED.unit_scores(squares)[:, :2] * CLIPPED.grid
    assert torch.allclose(
        clipped.double(), torch.tensor([[1.0, 3.0], [0.25, 0.75]]).double(), atol=1e-5
    )


def test_the_noise_has_the_law_that_is_billed():
    probe = replace(VOTES, noise_multiplier=2.0)
    stddev = probe.noise_stddev
    draws = noisy_scores([0] * 100_000, stddev, KEY, step=STEP, attempt=0)
    assert draws.dtype == np.int64 and stddev * probe.grid == 2.0 * probe.sensitivity
    edges = stats.norm.ppf(np.linspace(0, 1, 101)[1:-1]) * stddev
    counts = np.histogram(draws, [-np.inf, *edges, np.inf])[0]
    assert stats.chisquare(counts).pvalue > 1e-4
    assert abs(draws.std() / stddev - 1) < 0.01 and abs(draws.mean()) < 0.02 * stddev


def test_the_noise_is_added_once_per_address_and_is_the_runs_own():
    one = noisy_scores([5, 7], 4096, KEY, step=STEP, attempt=0)
    assert (one == noisy_scores(np.array([5, 7]), 4096, KEY, step=STEP, attempt=0)).all()
    assert (one - [5, 7] == noisy_scores([0, 0], 4096, KEY, step=STEP, attempt=0)).all()
    assert (one != noisy_scores([5, 7], 4096, KEY, step=STEP, attempt=1)).any()
    assert (one != noisy_scores([5, 7], 4096, RunKey(bytes(32)), step=STEP, attempt=0)).any()
    for totals, stddev in (([0.5], 10), ([[1]], 10), ([1], 0), ([1], 2.0)):
        with pytest.raises(ValueError):
            noisy_scores(totals, stddev, KEY, step=STEP, attempt=0)


def test_the_best_are_chosen_exactly_ties_by_place():
    scores = [0.0] * 12
    scores[11], scores[3] = 5.0, 4.0
    assert VOTES.best(scores) == ("m0", "m1", "m3", "m11")
    assert VOTES.best([-x for x in range(12)]) == ("m0", "m1", "m2", "m3")
    with pytest.raises(ValueError, match="one score per group"):
        VOTES.best([1.0])


def test_json_there_and_back():
    for probe in (VOTES, CLIPPED):
        assert Probe.from_json(probe.to_json()) == probe
    for broken in ({}, {**VOTES.to_json(), "extra": 1}, {**VOTES.to_json(), "groups": "abc"}, []):
        with pytest.raises(ValueError):
            Probe.from_json(broken)


@pytest.mark.parametrize(
    "change",
    [
        {"score": "entropy"},
        {"keep": 12},
        {"keep": 0},
        {"keep": 1.0},
        {"votes": None},
        {"votes": 12},
        {"votes": 0},
        {"clip_norm": 1.0},
        {"groups": ("a", "a")},
        {"noise_draws": 0},
        {"noise_multiplier": 0.0},
        {"per_size": 1},
        {"noise_multiplier": math.inf},
        {"expected_batch_size": 0.0},
        {"expected_batch_size": None},
        {"score": "squares"},
        {"score": "squares", "votes": None, "clip_norm": -1.0},
    ],
)
def test_contradictions_are_refused(change):
    with pytest.raises(ValueError):
        replace(VOTES, **change)
