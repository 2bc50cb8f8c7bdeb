"""What the clipped sum promises for every record: sensitivity, non-finite records, empty batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, ReferenceEngine

torch.set_num_threads(1)
BOUND = 0.3


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 8)
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.lin = nn.Linear(8, 8)

    def forward(self, x, label):
        h = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.lin(h + self.table(label)[:, None])


def setting(n, draws, seed=0):
    torch.manual_seed(seed)
    model = Small()
    data = {
        "x": torch.randn(n, draws, 2, 4, 4),
        "y": torch.randint(0, 4, (n,)),
        "w": torch.ones(n),
    }

    def rows(part):
        out = model(data["x"][part].flatten(0, 1), data["y"][part].repeat_interleave(draws))
        return out.square().mean((1, 2)) * data["w"][part].repeat_interleave(draws)

    return model, dict(model.named_parameters()), rows, data


def clip(norms):
    return BOUND / norms.clamp_min(BOUND)


def norm(sums):
    return torch.cat([t.flatten().double() for t in sums.values()]).norm()


@pytest.mark.parametrize("strategy", ["auto", "keep", "ghost"])
@pytest.mark.parametrize("draws", [1, 3])
def test_sensitivity(strategy, draws):
    """||S(D) - S(D without i)|| <= C, and the difference is the reference's clipped gradient of i."""
    n = 7
    model, trainable, rows, data = setting(n, draws)
    data["w"] = torch.tensor([1.0, 1e20, 1e-20, 0.0, float("nan"), float("inf"), 3.0])
    data["x"][6] = data["x"][0]
    everyone = torch.arange(n)
    with ReferenceEngine(model, trainable) as reference:
        alone = [reference.clipped_sum(rows, everyone[i : i + 1], draws=draws, clip=clip)[0] for i in range(n)]
    with Engine(model, trainable, strategy=strategy) as engine:
        for micro_batch in (None, 3):
            options = {"draws": draws, "clip": clip, "micro_batch": micro_batch}
            whole, norms = engine.clipped_sum(rows, everyone, **options)
            assert torch.isfinite(norm(whole))
            assert norms.isfinite().tolist() == [True, True, True, True, False, False, True]
            for i in range(n):
                rest, _ = engine.clipped_sum(rows, everyone[everyone != i], **options)
                moved = {k: whole[k] - rest[k] for k in whole}
                assert norm(moved) <= BOUND * (1 + 1e-5)
                assert norm({k: moved[k] - alone[i][k] for k in whole}) <= 1e-5 * BOUND


@pytest.mark.parametrize("strategy", ["auto", "keep", "ghost"])
@pytest.mark.parametrize("where", ["input", "one draw", "overflow", "loss"])
def test_non_finite_record_adds_exactly_zero(strategy, where):
    model, trainable, rows, data = setting(5, 3)
    good = torch.tensor([0, 1, 3, 4])
    if where == "input":
        data["x"][2] = float("nan")
    elif where == "one draw":
        data["x"][2, 1, 0, 0, 0] = float("inf")
    elif where == "overflow":
        data["x"][2, 1] = 3e38

    def poisoned(part):
        losses = rows(part)
        if where == "loss":  # the gradient itself stays finite
            losses = torch.where((part == 2).repeat_interleave(3), losses + torch.inf, losses)
        return losses

    with Engine(model, trainable, strategy=strategy) as engine:
        right, norms_good = engine.clipped_sum(poisoned, good, draws=3, clip=clip)
        sums, norms = engine.clipped_sum(poisoned, torch.arange(5), draws=3, clip=clip)
    assert norms[2] == torch.inf
    assert torch.allclose(norms[good], norms_good, rtol=1e-6)
    assert norm({k: sums[k] - right[k] for k in sums}) <= 1e-6 * norm(right)


def test_careless_clip_cannot_admit_a_rejected_record():
    model, trainable, rows, data = setting(3, 1)
    data["x"][1] = float("nan")
    with Engine(model, trainable) as engine:
        sums, _ = engine.clipped_sum(rows, torch.arange(3), clip=torch.ones_like)
        right, _ = engine.clipped_sum(rows, torch.tensor([0, 2]), clip=torch.ones_like)
        assert norm({k: sums[k] - right[k] for k in sums}) <= 1e-6 * norm(right)
        for wrong in (lambda n: -torch.ones_like(n), lambda n: n * torch.nan, lambda n: n.sum()):
            with pytest.raises(ValueError, match="clip"):
                engine.clipped_sum(rows, torch.tensor([0, 2]), clip=wrong)


@pytest.mark.parametrize("kind", [Engine, ReferenceEngine])
def test_empty_batch(kind):
    model, trainable, _, _ = setting(1, 1)

    def never(_):
        raise AssertionError("called for an empty batch")

    with kind(model, trainable) as engine:
        sums, norms = engine.clipped_sum(never, torch.arange(0), draws=3, clip=clip, micro_batch=4)
    assert norms.shape == (0,)
    assert all(sums[k].shape == p.shape and not sums[k].any() for k, p in trainable.items())


def test_small_gradients_with_large_inputs_are_not_underestimated():
    """|g|^2 underflows fp32 while x is huge: the Gram alone would report a norm of zero."""
    layer = nn.Linear(8, 8, bias=False)
    x = torch.randn(2, 4, 8) * 1e15
    with Engine(layer, {"w": layer.weight}, strategy="ghost") as engine:
        _, norms = engine.clipped_sum(lambda i: layer(x[i]).sum((1, 2)) * 1e-24, torch.arange(2), clip=clip)
    assert torch.allclose(norms, 1e-24 * x.double().sum(1).norm(dim=1) * 8**0.5, rtol=1e-3)


def test_sums_do_not_alias():
    model, trainable, rows, _ = setting(3, 1)
    with Engine(model, trainable) as engine:
        first, _ = engine.clipped_sum(rows, torch.arange(3), clip=clip)
        copy = {k: t.clone() for k, t in first.items()}
        engine.clipped_sum(rows, torch.arange(1), clip=clip)
    assert all(torch.equal(first[k], copy[k]) for k in copy)
