"""What the engine refuses, at construction where it can: every message names the module."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sfumato.gradients import Engine
from sfumato.gradients.arguments import check_precision

from .models import denoiser, mlp


def of(**modules):
    return nn.ModuleDict(modules)


def tied():
    model = of(a=nn.Linear(3, 3), b=nn.Linear(3, 3))
    model["b"].weight = model["a"].weight
    return model


def twice_in_one():
    model = of(lin=nn.Linear(3, 3))
    model["lin"].bias = nn.Parameter(torch.zeros(3))
    model["lin"].second = model["lin"].bias
    return model


def with_grad():
    model = of(a=nn.Linear(3, 3))
    model["a"].weight.grad = torch.zeros(3, 3)
    return model


class OwnForward(nn.Linear):
    def forward(self, x):
        return x @ self.weight.t() * 2


def patched():
    model = of(lin=nn.Linear(3, 3))
    model["lin"].forward = lambda x: x
    return model


def compiled_in_place():
    model = of(lin=nn.Linear(3, 3))
    model["lin"].compile(backend="eager")
    return model


REFUSED = {
    "batch norm": (lambda: of(lin=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)), "bn: BatchNorm1d"),
    "attention": (lambda: of(mha=nn.MultiheadAttention(4, 2)), "mha: nn.MultiheadAttention"),
    "parametrized": (
        lambda: of(lin=parametrizations.weight_norm(nn.Linear(3, 3))),
        "lin.*parametrized",
    ),
    "unsupported": (lambda: of(up=nn.ConvTranspose1d(2, 2, 2)), "up: ConvTranspose1d"),
    "instance norm": (lambda: of(norm=nn.InstanceNorm2d(2, affine=True)), "norm: InstanceNorm2d"),
    "own forward": (lambda: of(own=OwnForward(3, 3)), "own: OwnForward replaces the forward"),
    "padding": (
        lambda: of(conv=nn.Conv2d(4, 4, 3, padding_mode="circular")),
        "conv: Conv2d with padding_mode",
    ),
    "same padding": (lambda: of(conv=nn.Conv2d(4, 4, 2, padding="same")), "conv: .*odd kernels"),
    "1d": (
        lambda: of(conv=nn.Conv1d(4, 4, 3)),
        "conv: Conv1d owns the trainable tensor conv.weight and has no rule",
    ),
    "recurrent": (lambda: of(gru=nn.GRU(4, 4)), "gru: GRU owns"),
    "bilinear": (lambda: of(both=nn.Bilinear(2, 2, 2)), "both: Bilinear owns"),
    "slope": (lambda: of(act=nn.PReLU()), "act: PReLU owns"),
    "spectral": (
        lambda: of(lin=parametrizations.spectral_norm(nn.Linear(3, 3))),
        "lin.*parametrized",
    ),
    "old weight norm": (
        lambda: of(lin=nn.utils.weight_norm(nn.Linear(3, 3))),
        "lin: no rule for the parameter weight_g",
    ),
    "patched": (patched, "lin: Linear replaces the forward of Linear"),
    "two attributes": (twice_in_one, "lin.bias: one parameter shared by modules lin and lin"),
    "data parallel": (lambda: nn.DataParallel(nn.Linear(3, 3)), "DataParallel around the model"),
    "compiled in place": (compiled_in_place, "lin: a compiled model"),
    "max norm": (
        lambda: of(table=nn.Embedding(4, 4, max_norm=1.0)),
        "table: Embedding with max_norm",
    ),
    "frequency": (
        lambda: of(table=nn.Embedding(4, 4, scale_grad_by_freq=True)),
        "table: .*scale_grad_by_freq",
    ),
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


def test_batch_norm_is_refused_where_nothing_of_it_trains():
    """Its statistics couple the records all the same."""
    model = of(lin=nn.Linear(3, 3), bn=nn.BatchNorm1d(3))
    for mode in (True, False):
        with pytest.raises(ValueError, match="bn: BatchNorm1d mixes the records"):
            Engine(model.train(mode), {"lin.weight": model["lin"].weight})


def test_a_ddp_wrapper_is_refused():
    """It would add up raw gradients over the ranks before the clip."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        model = nn.parallel.DistributedDataParallel(nn.Linear(3, 3))
        with pytest.raises(ValueError, match="DistributedDataParallel around the model"):
            Engine(model, dict(model.named_parameters()))
    finally:
        torch.distributed.destroy_process_group()


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


def test_refused_rows_and_losses():
    case = mlp()
    model, trainable, rows, batch = case.model, case.trainable, case.rows, case.records
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


def test_mixed_precision_around_the_sums_is_refused():
    """The sums would not have the norms that were measured; inside row_losses it is welcome."""
    case = mlp()
    with Engine(case.model, case.trainable) as engine:
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="row_losses"):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
        left_on = torch.autocast("cpu", torch.bfloat16)

        def losses(part):
            found = case.rows(part)
            left_on.__enter__()
            return found

        try:
            with pytest.raises(ValueError, match="row_losses"):
                engine.clipped_sum(losses, case.records, clip=torch.ones_like)
        finally:
            left_on.__exit__(None, None, None)
        sums, _ = engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
    assert all(torch.isfinite(value).all() for value in sums.values())


@pytest.mark.parametrize("switch", ["torch", "cuda", "driver"])
def test_products_in_fewer_bits_are_refused(switch, monkeypatch):
    """Every switch that makes float32 products of a GPU TF32, on a machine without one too."""
    one, before = torch.ones(1), torch.get_float32_matmul_precision()
    check_precision(one)
    try:
        if switch == "torch":
            torch.set_float32_matmul_precision("high")
        elif switch == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
        else:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
        with pytest.raises(ValueError, match="TF32_OVERRIDE unset"):
            check_precision(one)
    finally:
        torch.set_float32_matmul_precision(before)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    check_precision(one)


def test_reentrant_checkpointing_is_refused():
    case = mlp()
    model, trainable, batch = case.model, case.trainable, case.records
    x = torch.randn(6, 3, requires_grad=True)
    with Engine(model, trainable) as engine, pytest.raises(RuntimeError):
        engine.clipped_sum(
            lambda i: checkpoint(model, x[i], use_reentrant=True).sum(1),
            batch,
            clip=torch.ones_like,
        )


@pytest.mark.parametrize("which", ["to_q", "lora_"])
def test_fused_projections(which):
    """to_qkv is computed from the old weights once and used instead: what is trained is not
    reached.
    """
    case = denoiser("unet", "lora" if which == "lora_" else "attention")
    case = case.only(lambda name: which in name)
    case.model.fuse_qkv_projections()
    with Engine(case.model, case.trainable) as engine:
        with pytest.raises(RuntimeError, match=rf"attn1\..*{which}.*: not reached"):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_merged_lora(kind):
    case = denoiser(kind, "lora")
    for module in case.model.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    with Engine(case.model, case.trainable) as engine:
        with pytest.raises(
            RuntimeError, match=r"lora_A.*: not reached|do not depend on any tapped layer"
        ):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)


def test_dora():
    """Its magnitudes scale outputs, and its norms read A and B past their modules."""
    case = denoiser("unet", "lora", use_dora=True)
    with Engine(case.model, case.trainable) as engine:
        with pytest.raises(ValueError, match=r"lora_"):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
    magnitudes = case.only(lambda name: "magnitude" in name)
    with Engine(case.model, magnitudes.trainable) as engine:
        with pytest.raises(
            ValueError,
            match=r"lora_magnitude_vector.*: the broadcast parameter .* was used in `div`",
        ):
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like)
