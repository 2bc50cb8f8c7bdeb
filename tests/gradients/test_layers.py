"""Every layer kind against one-at-a-time autograd: norms and clipped sums, all strategies, draws
and microbatches.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, ReferenceEngine, step
from sfumato.gradients.rules import conv_weight_grad, keep_weight

from .helpers import (
    STRATEGIES,
    Case,
    assert_exact_norms,
    assert_parity,
    assert_same,
    autocast,
    engine,
    flat,
    reference,
    whole,
)
from .models import block, cancelling, opposed


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
def test_parity(draws, dtype, bar):
    assert_parity(block(draws, dtype), bar, [(s, m) for s in STRATEGIES for m in (None, 1, 2, 3)])


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_half_frozen_layers(part):
    case = block(3)
    before = {k: p.clone() for k, p in case.model.named_parameters()}
    assert_parity(case.only(lambda name: name.endswith(part)), 1e-10)
    assert all(
        torch.equal(p, before[k]) and p.grad is None for k, p in case.model.named_parameters()
    )


def test_checkpointing():
    assert_parity(block(3, checkpointed=True), 1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups(strategy):
    """A norm, a factor and a rejection per record, over each group's tensors."""
    case = block(3)
    names = list(case.trainable)
    for groups in (names[::3] + names[1::3], names[2::3]), [[name] for name in names]:
        options = {"draws": 3, "clip": flat(0.05)}
        with ReferenceEngine(case.model, case.trainable, groups=groups) as slow:
            right = slow.clipped_sum(case.rows, case.records, **options)
        assert right[1].shape == (5, len(groups))
        with Engine(case.model, case.trainable, groups=groups, strategy=strategy) as one_pass:
            assert_same(
                one_pass.clipped_sum(case.rows, case.records, micro_batch=2, **options),
                right,
                1e-10,
            )


def test_lean_norms_a_record_at_a_time(monkeypatch):
    monkeypatch.setattr(step, "LEAN_ROOM", 1)
    assert_parity(block(3), 1e-10, [("lean", None), ("ghost", None)])


def test_strategies_do_not_tell_the_batch():
    """They come from declared shapes: what is written of a run says nothing about the drawn
    records.
    """
    case = block(3)
    with Engine(case.model, case.trainable) as one_pass:
        chosen = []
        for n in (1, 2, 5):
            one_pass.clipped_sum(case.rows, case.records[:n], draws=3, clip=flat(0.1))
            chosen.append(one_pass.strategies)
    assert chosen[0] == chosen[1] == chosen[2] and set(chosen[0].values()) <= set(STRATEGIES)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_batch_sizes(n):
    case = block(3)
    case.records = case.records[:n]
    right = reference(case, 0.05)[:2]
    for strategy in STRATEGIES:
        assert_same(engine(case, 0.05, strategy), right, 1e-10)
        assert_same(engine(case, 0.05, strategy, 2), right, 1e-10)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_bfloat16_autocast():
    case = block(3, torch.float32)

    sums_r, norms_r, bound = reference(case)
    case.rows = autocast(case.rows)
    for strategy in STRATEGIES:
        sums, norms = engine(case, bound, strategy)
        assert torch.allclose(norms, norms_r, rtol=1e-2)
        assert (whole(sums) - whole(sums_r)).norm() <= 3e-2 * whole(sums_r).norm()
        assert all(t.dtype == torch.float64 for t in sums.values()) and norms.dtype == torch.float64


class Odd(nn.Module):
    """The shapes a block does not have: strides and kernels of two sizes, 1x1 with stride, Linear
    on 2-D and 4-D.
    """

    def __init__(self):
        super().__init__()
        self.oblong = nn.Conv2d(2, 4, (3, 1), stride=(1, 2), padding=(1, 0))
        self.same = nn.Conv2d(4, 4, 3, padding="same", bias=False)
        self.tall = nn.Conv2d(4, 4, (2, 3), padding=(0, 2))
        self.skip = nn.Conv2d(4, 4, 1, stride=2)
        self.grid = nn.Linear(4, 4)
        self.flat = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm((2, 4))

    def forward(self, x):
        h = self.grid(self.skip(self.tall(self.same(self.oblong(x)))).movedim(1, -1)).tanh()
        return self.norm(torch.stack([self.flat(h.mean((1, 2))), h[:, 0, 0]], 1)).square().mean(
            (1, 2)
        ) + h.mean((1, 2, 3))


@pytest.mark.parametrize("draws", [1, 2])
def test_odd_shapes(draws):
    torch.manual_seed(0)
    model, x = Odd().double(), torch.randn(4, draws, 2, 6, 6).double()
    case = Case(
        model,
        dict(model.named_parameters()),
        lambda i: model(x[i].flatten(0, 1)),
        torch.arange(4),
        draws,
    )
    assert_parity(case, 1e-10)
    x = x.contiguous(memory_format=torch.contiguous_format).transpose(-1, -2)  # not contiguous
    assert_parity(case, 1e-10)


@pytest.mark.parametrize(("tokens", "spread"), [(77, 0.01), (77, 0.1), (1024, 0.01)])
def test_gram_cancellation(tokens, spread):
    """Nearly equal tokens whose output gradients sum to about zero: a bf16 or clamped Gram would
    report 0.
    """
    assert_exact_norms(*cancelling(tokens, spread))


def test_repeated_call_has_cross_terms():
    """Two calls with opposite gradients: the parts are large, their sum is exactly zero."""
    assert_exact_norms(*opposed())


def test_draws_average_before_the_norm():
    """Opposite draws of one record cancel: clipping each copy would not see it."""
    layer = nn.Linear(6, 4, bias=False).double()
    x = torch.randn(3, 6).double()
    sign = torch.tensor([1.0, -1.0]).double()

    def rows(i):
        return layer(x[i].repeat_interleave(2, 0)).sum(1) * sign.repeat(len(i))

    case = Case(layer, dict(layer.named_parameters()), rows, torch.arange(3), 2)
    assert_exact_norms(case, torch.zeros(3).double(), 4 * x.norm(dim=1))


def test_a_convolution_in_any_memory_layout():
    """Attention leaves channels last, and a concatenation cuts its gradient into slices: PyTorch
    then lays the weight's gradient out in another order.
    """
    g = torch.Generator().manual_seed(0)
    module = nn.Conv2d(16, 16, 3, padding=1)
    x = torch.randn(4, 16, 16, 16, generator=g).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(4, 24, 16, 16, generator=g)[:, :16]
    assert not conv_weight_grad(module, x[:2], grad[:2]).is_contiguous()
    found = torch.empty(2, *module.weight.flatten(1).shape)
    keep_weight(module, x, grad, found, first=True)
    for record, rows in enumerate((slice(0, 2), slice(2, 4))):
        (right,) = torch.autograd.grad(module(x[rows]), module.weight, grad[rows])
        assert torch.allclose(found[record], right.flatten(1), rtol=1e-4, atol=1e-4)
