"""Refusals name the module; coverage, life cycle and the start-up self-check."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sfumato.gradients import Engine, self_check

torch.set_num_threads(1)


def of(**modules):
    return nn.ModuleDict(modules)


def tied():
    model = of(a=nn.Linear(3, 3), b=nn.Linear(3, 3))
    model["b"].weight = model["a"].weight
    return model


def with_grad():
    model = of(a=nn.Linear(3, 3))
    model["a"].weight.grad = torch.zeros(3, 3)
    return model


class OwnForward(nn.Linear):
    def forward(self, x):
        return x @ self.weight.t() * 2


REFUSED = {
    "batch norm": (lambda: of(lin=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)), "bn: BatchNorm1d"),
    "attention": (lambda: of(mha=nn.MultiheadAttention(4, 2)), "mha: nn.MultiheadAttention"),
    "parametrized": (lambda: of(lin=parametrizations.weight_norm(nn.Linear(3, 3))), "lin.*parametrized"),
    "unsupported": (lambda: of(up=nn.ConvTranspose2d(2, 2, 2)), "up: ConvTranspose2d"),
    "instance norm": (lambda: of(norm=nn.InstanceNorm2d(2, affine=True)), "norm: InstanceNorm2d"),
    "own forward": (lambda: of(own=OwnForward(3, 3)), "own: OwnForward replaces the forward"),
    "groups": (lambda: of(conv=nn.Conv2d(4, 4, 3, groups=2)), "conv: Conv2d with groups=2"),
    "dilation": (lambda: of(conv=nn.Conv2d(4, 4, 3, dilation=2)), "conv: Conv2d with dilation"),
    "padding": (lambda: of(conv=nn.Conv2d(4, 4, 3, padding_mode="circular")), "conv: Conv2d with padding_mode"),
    "same padding": (lambda: of(conv=nn.Conv2d(4, 4, 2, padding="same")), "conv: .*odd kernels"),
    "padding index": (lambda: of(table=nn.Embedding(4, 4, padding_idx=0)), "table: Embedding with padding_idx"),
    "max norm": (lambda: of(table=nn.Embedding(4, 4, max_norm=1.0)), "table: Embedding with max_norm"),
    "frequency": (lambda: of(table=nn.Embedding(4, 4, scale_grad_by_freq=True)), "table: .*scale_grad_by_freq"),
    "sparse": (lambda: of(table=nn.Embedding(4, 4, sparse=True)), "table: Embedding with sparse"),
    "shared": (tied, "a.weight: one parameter shared by modules a and b"),
    "grad": (with_grad, "a.weight: .grad is set"),
    "compiled": (lambda: torch.compile(of(lin=nn.Linear(3, 3)), backend="eager"), "compiled model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_construction(case):
    build, message = REFUSED[case]
    model = build()
    required = [p.requires_grad for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        Engine(model, dict(model.named_parameters()))
    assert [p.requires_grad for p in model.parameters()] == required


def test_refused_trainables():
    model = of(a=nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"other: .*not a parameter of the model"):
        Engine(model, {"other": nn.Parameter(torch.ones(2))})
    with pytest.raises(ValueError, match="two: the same parameter as one"):
        Engine(model, {"one": model["a"].weight, "two": model["a"].weight})
    with pytest.raises(ValueError, match="empty"):
        Engine(model, {})
    with pytest.raises(ValueError, match="strategy"):
        Engine(model, dict(model.named_parameters()), strategy="fast")


def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 3)
    return model, dict(model.named_parameters()), lambda i: model(x[i]).square().sum(1), torch.arange(6)


def test_refused_rows_and_losses():
    model, trainable, rows, batch = setting()
    x = torch.randn(6, 3)
    clip = torch.ones_like
    with Engine(model, trainable) as engine:
        for losses, options, message in (
            (lambda i: rows(i).mean(), {}, "scalar"),
            (rows, {"draws": 2}, "for 6 records x 2 draws"),
            (lambda i: rows(i)[:4], {}, "for 6 records"),
            (lambda i: model(x[:3]).sum() + rows(i), {}, "0: 3 rows for 6 records"),
            (rows, {"draws": 0}, "draws"),
            (rows, {"micro_batch": 0}, "micro_batch"),
        ):
            with pytest.raises(ValueError, match=message):
                engine.clipped_sum(losses, batch, clip=clip, **options)
        # and the engine still works after every failure
        again, _ = engine.clipped_sum(rows, batch, clip=clip)
    with Engine(model, trainable) as engine:
        fresh, _ = engine.clipped_sum(rows, batch, clip=clip)
    assert all(torch.equal(again[k], fresh[k]) for k in fresh)


def test_layer_not_reached():
    model, trainable, _, batch = setting()
    x = torch.randn(6, 3)
    with Engine(model, trainable) as engine:
        for losses, message in (
            (lambda i: model[0](x[i]).sum(1), "2.weight: not reached"),
            (lambda i: (model[0](x[i]).tanh() @ model[2].weight.t()).sum(1), "2.weight: not reached"),
            (lambda i: x[i].sum(1), "do not depend"),
        ):
            with pytest.raises(RuntimeError, match=message):
                engine.clipped_sum(losses, batch, clip=torch.ones_like)


def test_foreign_backward_is_refused():
    model, trainable, rows, batch = setting()
    with Engine(model, trainable) as engine:
        held = []

        def twice(i):
            held.append(rows(i))
            return rows(i) + held[0]

        engine.clipped_sum(twice, batch[:3], clip=torch.ones_like)
        with pytest.raises(RuntimeError):
            engine.clipped_sum(twice, batch[3:], clip=torch.ones_like)

        def inner(i):
            losses = rows(i)
            torch.autograd.grad(losses.sum(), [engine._anchor], allow_unused=True)
            return losses

        with pytest.raises(RuntimeError, match="not the engine's own"):
            engine.clipped_sum(inner, batch, clip=torch.ones_like)


def test_reentrant_checkpointing_is_refused():
    model, trainable, _, batch = setting()
    x = torch.randn(6, 3, requires_grad=True)
    with Engine(model, trainable) as engine, pytest.raises(RuntimeError):
        engine.clipped_sum(lambda i: checkpoint(model, x[i], use_reentrant=True).sum(1), batch, clip=torch.ones_like)


def test_life_cycle():
    model, trainable, rows, batch = setting()
    model[0].weight.requires_grad_(False)
    hooks = [len(m._forward_hooks) for m in model]
    with pytest.raises(KeyError), Engine(model, trainable) as engine:
        assert not any(p.requires_grad for p in model.parameters())
        with pytest.raises(ValueError, match="another engine is open"):
            Engine(model, trainable)
        with pytest.raises(ValueError, match="another engine is open"):
            Engine(nn.Sequential(model), trainable)
        model(torch.randn(9, 3))  # outside a step the model is left alone
        raise KeyError
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert [len(m._forward_hooks) for m in model] == hooks
    with pytest.raises(RuntimeError, match="closed"):
        engine.clipped_sum(rows, batch, clip=torch.ones_like)
    Engine(model, trainable).close()


def test_stale_handles():
    model, trainable, rows, batch = setting()
    with Engine(model, trainable) as engine:
        model[0].weight.requires_grad_(True)
        with pytest.raises(RuntimeError, match=r"0\.weight: requires_grad"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = torch.zeros(5, 3)
        with pytest.raises(RuntimeError, match=r"0\.weight: \.grad"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)
        model[0].weight.grad = None
        model[2].bias = nn.Parameter(torch.zeros(2))
        with pytest.raises(RuntimeError, match=r"2\.bias: replaced"):
            engine.clipped_sum(rows, batch, clip=torch.ones_like)


def test_self_check_passes_and_restores():
    model, trainable, rows, batch = setting()
    nn.init.zeros_(model[2].weight)
    assert self_check(model, trainable, rows, batch, 1) == []
    assert not model[2].weight.any()
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_self_check_names_dead_tensors():
    model, trainable, _, batch = setting()
    x = torch.randn(6, 3)

    def softmax(i):
        shift = model[2](model[0](x[i]).tanh()).sum(1, keepdim=True)
        return (torch.cat([shift, shift], 1).softmax(1)[:, 0] + model[0](x[i]).sum(1)).square()

    assert self_check(model, trainable, softmax, batch, 1) == ["2.weight", "2.bias"]


def test_self_check_finds_a_partial_bypass():
    model, trainable, _, batch = setting()
    x = torch.randn(6, 3)

    def bypass(i):
        return (model(x[i]) + model[0](x[i]) @ model[2].weight.t()).square().sum(1)

    with pytest.raises(RuntimeError, match="self-check"):
        self_check(model, trainable, bypass, batch, 1)
    with pytest.raises(ValueError, match="two synthetic"):
        self_check(model, trainable, bypass, batch[:1], 1)
