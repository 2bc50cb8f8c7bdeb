"""Frozen weights in half precision: the same sums to the last bit, the same model afterwards."""

from __future__ import annotations

import pytest
import torch

from sfumato.bases import load_base
from sfumato.compute.precision import Formats
from sfumato.gradients import Engine
from sfumato.methods import Attention, Full, Given, Prompts
from sfumato.methods.lora import Lora
from sfumato.training import Batch, lean

CLASSES = ("circle", "cross", "square")


def made(whole_tiny_base, method):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        base = load_base(whole_tiny_base)
        base.formats = Formats.everywhere("bfloat16")
        return method.apply(base, Given(Prompts(CLASSES)))


def batch(units=3, draws=2):
    g = torch.Generator().manual_seed(1)
    shape = (units, draws, 4, 8, 8)
    noise = [torch.randn(shape, generator=g) for _ in range(3)]
    label = (torch.arange(units) % 3)[:, None].expand(-1, draws)
    time = torch.randint(0, 1000, (units, draws), generator=g)
    none = torch.zeros(units, draws, dtype=torch.bool)
    return Batch(
        noise[0], torch.full(shape, 0.1), label, noise[1], noise[2], time, none, ~none * 1.0
    )


def sums(adaptation):
    with Engine(adaptation.model, adaptation.trainable) as engine:
        clip = torch.ones_like
        return engine.clipped_sum(adaptation.row_losses, batch(), draws=2, clip=clip)


@pytest.mark.parametrize("method", [Lora(rank=2), Attention(), Full()], ids=lambda m: m.name)
def test_sums_are_those_of_the_whole_weights(whole_tiny_base, method):
    adaptation = made(whole_tiny_base, method)
    denoiser = adaptation.base.denoiser
    before = {name: p.detach().clone() for name, p in denoiser.named_parameters()}
    right, norms = sums(adaptation)
    trainable = list(adaptation.trainable.values())
    with lean(denoiser, trainable, torch.bfloat16):
        halves = {n for n, p in denoiser.named_parameters() if p.dtype == torch.bfloat16}
        assert all(p.dtype == torch.float32 for p in trainable)
        found, lengths = sums(adaptation)
    assert bool(halves) == (method.name != "full") and not any("norm" in n for n in halves)
    assert torch.equal(lengths, norms) and all(torch.equal(found[n], right[n]) for n in right)
    after = dict(denoiser.named_parameters())
    assert all(torch.equal(after[n], p) and after[n].dtype == p.dtype for n, p in before.items())


def test_single_precision_is_left_alone_and_an_error_restores(whole_tiny_base):
    adaptation = made(whole_tiny_base, Lora(rank=2))
    denoiser, trainable = adaptation.base.denoiser, list(adaptation.trainable.values())
    with lean(denoiser, trainable, torch.float32):
        assert all(p.dtype == torch.float32 for p in denoiser.parameters())
    with pytest.raises(KeyError), lean(denoiser, trainable, torch.bfloat16):
        raise KeyError
    assert all(p.dtype == torch.float32 for p in denoiser.parameters())
