"""Every layer kind against one-at-a-time autograd: norms and clipped sums, all strategies, draws and micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sfumato.gradients import Engine, ReferenceEngine

torch.set_num_threads(1)


class Block(nn.Module):
    """One of each supported layer; `head` is called twice, on inputs of different length; `table` on B rows."""

    def __init__(self, repeat=True, checkpointed=False):
        super().__init__()
        self.repeat, self.checkpointed = repeat, checkpointed
        self.table = nn.Embedding(5, 16)
        self.words = nn.Embedding(7, 16)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.point = nn.Conv2d(8, 8, 1, bias=False)
        self.stride = nn.Conv2d(8, 8, 3, stride=2, padding="valid")
        self.layer = nn.LayerNorm(8)
        self.query = nn.Linear(8, 16)
        self.rms = nn.RMSNorm(16)
        self.time = nn.Linear(4, 16)
        self.head = nn.Linear(16, 16)

    def body(self, x):
        h = self.stride(self.point(self.group(self.conv(x)).tanh()))
        return self.query(self.layer(h.flatten(2).transpose(1, 2)))

    def forward(self, x, label, words, time, draws):
        h = checkpoint(self.body, x, use_reentrant=False) if self.checkpointed else self.body(x)
        context = torch.cat([self.table(label)[:, None], self.words(words)], 1).repeat_interleave(draws, 0)
        h = self.rms(h + self.time(time)[:, None]) @ context.transpose(1, 2)
        h = torch.cat([h.softmax(-1) @ context, context], 1)
        h = self.head(h).tanh()
        if self.repeat:
            h = self.head(input=h[:, :3])
        return h.square().mean((1, 2))


class Data:
    """Records that slice: inputs with K draws each."""

    def __init__(self, n, draws, dtype):
        g = torch.Generator().manual_seed(7)
        self.items = (
            torch.randn(n, draws, 3, 7, 7, generator=g).to(dtype),
            torch.randint(0, 5, (n,), generator=g),
            torch.randint(0, 7, (n, 4), generator=g),
            torch.randn(n, draws, 4, generator=g).to(dtype),
        )

    def __len__(self):
        return len(self.items[0])

    def __getitem__(self, at):
        part = Data.__new__(Data)
        part.items = tuple(t[at] for t in self.items)
        return part


def setting(draws=1, dtype=torch.float64, n=5, **options):
    torch.manual_seed(0)
    model = Block(**options).to(dtype)

    def rows(batch):
        x, label, words, time = batch.items
        return model(x.flatten(0, 1), label, words, time.flatten(0, 1), draws)

    return model, dict(model.named_parameters()), rows, Data(n, draws, dtype)


def flat(bound):
    return lambda norms: bound / norms.clamp_min(bound)


def reference(model, trainable, rows, data, draws, bound=None):
    with ReferenceEngine(model, trainable) as engine:
        if bound is None:
            _, norms = engine.clipped_sum(rows, data, draws=draws, clip=torch.ones_like)
            bound = float(norms.median())
        return (*engine.clipped_sum(rows, data, draws=draws, clip=flat(bound)), bound)


def run(model, trainable, rows, data, draws, bound, strategy="auto", micro_batch=None):
    with Engine(model, trainable, strategy=strategy) as engine:
        return engine.clipped_sum(rows, data, draws=draws, clip=flat(bound), micro_batch=micro_batch)


def same(got, right, bar, floor=1e-3):
    (sums, norms), (sums_r, norms_r) = got, right
    assert sums.keys() == sums_r.keys()
    assert torch.allclose(norms, norms_r, rtol=bar, atol=0)
    whole = torch.cat([t.flatten() for t in sums_r.values()]).norm()
    for name in sums:
        assert (sums[name] - sums_r[name]).norm() <= bar * max(sums_r[name].norm(), floor * whole), name


@pytest.mark.parametrize("strategy", ["auto", "keep", "ghost"])
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
def test_parity(strategy, draws, dtype, bar):
    model, trainable, rows, data = setting(draws, dtype)
    *right, bound = reference(model, trainable, rows, data, draws)
    for micro_batch in (None, 1, 2, 3):
        same(run(model, trainable, rows, data, draws, bound, strategy, micro_batch), right, bar)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_half_frozen_layers(part):
    model, trainable, rows, data = setting(3)
    trainable = {k: p for k, p in trainable.items() if k.endswith(part)}
    *right, bound = reference(model, trainable, rows, data, 3)
    before = {k: p.clone() for k, p in model.named_parameters()}
    for strategy in ("auto", "keep", "ghost"):
        same(run(model, trainable, rows, data, 3, bound, strategy), right, 1e-10)
    assert all(torch.equal(p, before[k]) and p.grad is None for k, p in model.named_parameters())


@pytest.mark.parametrize("strategy", ["auto", "keep", "ghost"])
def test_checkpointing(strategy):
    model, trainable, rows, data = setting(3, checkpointed=True)
    *right, bound = reference(model, trainable, rows, data, 3)
    same(run(model, trainable, rows, data, 3, bound, strategy), right, 1e-10)


@pytest.mark.parametrize("strategy", ["auto", "keep", "ghost"])
def test_bfloat16_autocast(strategy):
    model, trainable, rows, data = setting(3, torch.float32)

    def cast(batch):
        with torch.autocast("cpu", torch.bfloat16):
            return rows(batch)

    sums_r, norms_r, bound = reference(model, trainable, rows, data, 3)
    sums, norms = run(model, trainable, cast, data, 3, bound, strategy)
    assert torch.allclose(norms, norms_r, rtol=1e-2)
    whole = torch.cat([t.flatten() for t in sums_r.values()])
    error = torch.cat([(sums[k] - sums_r[k]).flatten() for k in sums])
    assert error.norm() <= 3e-2 * whole.norm()
    assert all(t.dtype == torch.float32 for t in sums.values()) and norms.dtype == torch.float64


@pytest.mark.parametrize("strategy", ["keep", "ghost"])
@pytest.mark.parametrize(("tokens", "spread"), [(77, 0.01), (77, 0.1), (1024, 0.01)])
def test_gram_cancellation(strategy, tokens, spread):
    """Nearly equal tokens whose output gradients sum to about zero: a bf16 or clamped Gram would report 0."""
    torch.manual_seed(1)
    layer = nn.Linear(24, 16, bias=False)
    x = (torch.randn(4, 1, 24) + spread * torch.randn(4, tokens, 24)).bfloat16().float()
    weight = torch.randn(4, tokens, 16)
    weight = (weight - weight.mean(1, keepdim=True)).bfloat16().float()
    data = torch.arange(4)

    def rows(part):
        return (layer(x[part]) * weight[part]).sum((1, 2))

    exact = torch.linalg.vector_norm(torch.bmm(weight.double().transpose(1, 2), x.double()).flatten(1), dim=1)
    _, norms = run(layer, {"w": layer.weight}, rows, data, 1, 1.0, strategy)
    assert torch.allclose(norms, exact, rtol=1e-3)


def test_repeated_call_has_cross_terms():
    """w used twice with opposite gradients: the parts are large, their sum is exactly zero."""
    layer = nn.Linear(6, 4).double()
    x = torch.randn(3, 6).double()

    def rows(part):
        return layer(x[part]).sum(1) - layer(x[part]).sum(1)

    for strategy in ("auto", "keep", "ghost"):
        _, norms = run(layer, dict(layer.named_parameters()), rows, torch.arange(3), 1, 1.0, strategy)
        assert float(norms.max()) < 1e-12


def test_draws_average_before_the_norm():
    """Opposite draws of one record cancel: clipping each copy would not see it."""
    layer = nn.Linear(6, 4, bias=False).double()
    x = torch.randn(3, 6).double()
    sign = torch.tensor([1.0, -1.0]).double().repeat(3)

    def rows(part):
        return layer(x[part].repeat_interleave(2, 0)).sum(1) * sign[: 2 * len(part)]

    for strategy in ("auto", "keep", "ghost"):
        _, norms = run(layer, dict(layer.named_parameters()), rows, torch.arange(3), 2, 1.0, strategy)
        assert float(norms.max()) < 1e-12
