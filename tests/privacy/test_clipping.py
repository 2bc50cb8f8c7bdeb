"""Clipping: no unit contributes more than the sensitivity, whatever its norm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.privacy.clipping import ROUNDING, equal_shares, flat, normalised, per_group

LIMIT = 1 - 1e-5  # room for the rounding of sums


@settings(deadline=None)
@given(
    st.floats(0, float(torch.finfo(torch.float32).max), width=32),
    st.floats(1e-6, 1e6),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_no_contribution_exceeds_the_sensitivity(norm, clip_norm, dtype):
    norms = torch.tensor([norm], dtype=dtype)
    for clip in (flat(clip_norm), normalised(0.01)):
        factor = clip.factors(norms)
        assert factor.dtype == dtype
        assert factor.double().item() * norms.double().item() <= clip.sensitivity * LIMIT


def test_values():
    norms = torch.tensor([0.0, 0.5, 2.0, 8.0], dtype=torch.float64)
    assert flat(2.0).factors(norms).tolist() == pytest.approx([1.0, 1.0, ROUNDING, 0.25 * ROUNDING])
    assert normalised(0.5).factors(norms).tolist() == pytest.approx(
        [ROUNDING * f for f in (2.0, 1.0, 0.4, 1 / 8.5)]
    )
    assert 0 < 1 - ROUNDING <= 1e-3
    assert flat(2.0).sensitivity == 2.0 and normalised().sensitivity == 1.0
    assert flat(2.0)(norms).tolist() == flat(2.0).factors(norms).tolist()
    assert flat(1.0).factors(torch.zeros(0)).shape == (0,)


def test_non_finite_norms_contribute_nothing():
    norms = torch.tensor([float("nan"), float("inf"), -float("inf"), -1.0, 1.0])
    for clip in (flat(1.0), normalised(1e-9)):
        assert clip.factors(norms)[:4].tolist() == [0, 0, 0, 0] and clip.factors(norms)[4] > 0


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_refusals(value):
    for make in (flat, normalised):
        with pytest.raises(ValueError):
            make(value)
    with pytest.raises(ValueError, match="float32"):
        flat(1.0).factors(torch.ones(2, dtype=torch.float16))


def test_per_group_bounds_every_group_and_says_the_total():
    clip = per_group([3.0, 4.0])
    assert clip.sensitivity == 5.0
    norms = torch.tensor([[6.0, 2.0], [0.0, 8.0], [30.0, 40.0]], dtype=torch.float64)
    right = [[0.5 * ROUNDING, 1.0], [1.0, 0.5 * ROUNDING], [0.1 * ROUNDING, 0.1 * ROUNDING]]
    assert torch.allclose(clip.factors(norms), torch.tensor(right, dtype=torch.float64))
    assert float((clip.factors(norms) * norms).norm(dim=1).max()) == pytest.approx(
        ROUNDING * clip.sensitivity
    )


def test_equal_shares_add_up_to_the_total():
    for groups in (1, 2, 7, 128, 1000):
        assert per_group(equal_shares(0.05, groups)).sensitivity == pytest.approx(0.05, rel=1e-12)


def test_per_group_normalised_scales_every_group_to_its_bound():
    clip = per_group([3.0, 4.0], gamma=0.5)
    assert clip.kind == "per-group-normalised" and clip.sensitivity == 5.0
    norms = torch.tensor([[2.5, 0.5], [1e-3, 1e9], [0.0, 0.0]], dtype=torch.float64)
    assert clip.factors(norms)[0].tolist() == pytest.approx([ROUNDING, 4 * ROUNDING])
    assert float((clip.factors(norms) * norms).norm(dim=1).max()) < clip.sensitivity
    for gamma in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="gamma"):
            per_group([1.0], gamma)


def test_per_group_rejects_the_whole_unit_for_one_bad_group():
    factors = per_group([1.0, 1.0]).factors(torch.tensor([[float("inf"), 1.0], [1.0, 1.0]]))
    assert factors.tolist() == [[0.0, 0.0], pytest.approx([ROUNDING, ROUNDING])]


def test_per_group_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="at least one group"):
        per_group([])
    with pytest.raises(ValueError, match="finite number > 0"):
        per_group([1.0, 0.0])
    with pytest.raises(ValueError, match=r"norms \[B, 2\]"):
        per_group([1.0, 1.0]).factors(torch.ones(3))
