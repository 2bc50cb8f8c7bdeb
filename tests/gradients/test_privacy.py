"""What the clipped sum promises for every record: sensitivity, non-finite records, empty
batches.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sfumato.gradients import Engine, ReferenceEngine

from .helpers import STRATEGIES, Case, assert_sensitivity, flat, whole
from .models import denoiser, small

BOUND = 0.3
WEIGHTS = (
    1.0,
    3.0,
    -1.0,
    0.0,
    1e-20,
    1e20,
    -1e20,
    1e-38,
    float("nan"),
    float("inf"),
    float("-inf"),
)


@pytest.mark.parametrize("draws", [1, 3])
def test_sensitivity(draws):
    """||S(D) - S(D without i)|| <= C, and the difference is the reference's clipped
    gradient of i.
    """
    case, data = small(7, draws)
    data["w"] = torch.tensor([1.0, 1e20, 1e-20, 0.0, float("nan"), float("inf"), 3.0])
    data["x"][6] = data["x"][0]
    assert_sensitivity(case, BOUND, micro_batches=(None, 3))


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    weights=st.lists(st.sampled_from(WEIGHTS), min_size=1, max_size=4),
    scale=st.sampled_from([1.0, 1e-20, 1e15]),
    draws=st.sampled_from([1, 3]),
    strategy=st.sampled_from(STRATEGIES),
    micro_batch=st.sampled_from([None, 2]),
    bound=st.sampled_from([1e-3, BOUND, 30.0]),
    copy=st.booleans(),
)
def test_sensitivity_property(weights, scale, draws, strategy, micro_batch, bound, copy):
    """Whatever the records are: huge, tiny, zero, duplicate or not numbers."""
    case, data = small(len(weights), draws)
    data["w"] = torch.tensor(weights)
    data["x"][0] *= scale
    if copy:
        data["x"][-1], data["y"][-1], data["w"][-1] = data["x"][0], data["y"][0], data["w"][0]
    assert_sensitivity(case, bound, [strategy], [micro_batch])


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_sensitivity_of_denoisers(kind):
    """One record's loss weighs 1e6 times the others': its contribution is the bound, no more."""
    case = denoiser(kind, "whole", 3, n=3)
    rows = case.rows
    case.rows = lambda i: rows(i) * torch.where(i == 1, 1e6, 1.0).repeat_interleave(3)
    assert_sensitivity(case, BOUND, ["auto"])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("where", ["input", "one draw", "overflow", "mid-layer", "loss"])
def test_non_finite_record_adds_exactly_zero(strategy, where):
    case, data = small(5, 3)
    good = torch.tensor([0, 1, 3, 4])
    if where == "input":
        data["x"][2] = float("nan")
    elif where == "one draw":
        data["x"][2, 1, 0, 0, 0] = float("inf")
    elif where == "overflow":
        data["x"][2, 1] = 3e38
    elif where == "mid-layer":  # every input and weight is finite, a product is not
        data["y"][:] = 0
        data["y"][2] = 3
        with torch.no_grad():
            case.trainable["table.weight"][3] = 3e38
            case.trainable["lin.weight"][0] = 3.0

    def poisoned(i):
        losses = case.rows(i)
        if where == "loss":  # the gradient itself stays finite
            losses = torch.where((i == 2).repeat_interleave(3), losses + torch.inf, losses)
        return losses

    options = {"draws": 3, "clip": flat(BOUND)}
    with Engine(case.model, case.trainable, strategy=strategy) as engine:
        right, norms_good = engine.clipped_sum(poisoned, good, **options)
        sums, norms = engine.clipped_sum(poisoned, case.records, **options)
    assert norms[2] == torch.inf
    assert torch.allclose(norms[good], norms_good, rtol=1e-6)
    assert (whole(sums) - whole(right)).norm() <= 1e-6 * whole(right).norm()


def test_nothing_but_rejected_records():
    case, data = small(3, 1)
    data["x"][:] = float("nan")
    with Engine(case.model, case.trainable) as engine:
        sums, norms = engine.clipped_sum(case.rows, case.records, clip=flat(BOUND))
    assert not whole(sums).any() and norms.isinf().all()


def test_careless_clip_cannot_admit_a_rejected_record():
    case, data = small(3, 1)
    data["x"][1] = float("nan")
    good = torch.tensor([0, 2])
    with Engine(case.model, case.trainable) as engine:
        sums, _ = engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
        right, _ = engine.clipped_sum(case.rows, good, clip=torch.ones_like)
        assert (whole(sums) - whole(right)).norm() <= 1e-6 * whole(right).norm()
        for wrong in (lambda n: -torch.ones_like(n), lambda n: n * torch.nan, lambda n: n.sum()):
            with pytest.raises(ValueError, match="clip"):
                engine.clipped_sum(case.rows, good, clip=wrong)


@pytest.mark.parametrize("kind", [Engine, ReferenceEngine])
def test_empty_batch(kind):
    case, _ = small(1, 1)

    def never(_):
        raise AssertionError("called for an empty batch")

    with kind(case.model, case.trainable) as engine:
        sums, norms = engine.clipped_sum(
            never, torch.arange(0), draws=3, clip=flat(BOUND), micro_batch=4
        )
    assert norms.shape == (0,)
    assert all(sums[k].shape == p.shape and not sums[k].any() for k, p in case.trainable.items())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_small_gradients_with_large_inputs_are_not_underestimated(strategy):
    """|g|^2 underflows fp32 while x is huge: the Gram alone would report a norm of zero."""
    layer = nn.Linear(8, 8, bias=False)
    x = torch.randn(2, 4, 8) * 1e15
    case = Case(
        layer, {"w": layer.weight}, lambda i: layer(x[i]).sum((1, 2)) * 1e-24, torch.arange(2)
    )
    with Engine(layer, case.trainable, strategy=strategy) as engine:
        _, norms = engine.clipped_sum(case.rows, case.records, clip=flat(BOUND))
    assert torch.allclose(norms, 1e-24 * x.double().sum(1).norm(dim=1) * 8**0.5, rtol=1e-3)


def test_sums_do_not_alias():
    case, _ = small(3, 1)
    with Engine(case.model, case.trainable) as engine:
        first, _ = engine.clipped_sum(case.rows, case.records, clip=flat(BOUND))
        copy = {k: t.clone() for k, t in first.items()}
        engine.clipped_sum(case.rows, case.records[:1], clip=flat(BOUND))
    assert all(torch.equal(first[k], copy[k]) for k in copy)
