"""Squared norms per weight and record, against one-at-a-time autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sfumato.gradients.scores import gradient_squares

from .models import TARGETS, denoiser

torch.set_num_threads(1)


class Twice(nn.Module):
    """A convolution with stride, a linear layer called twice, and one more linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.again = nn.Linear(3, 3)
        self.last = nn.Linear(3, 1)

    def forward(self, x):
        h = self.conv(x).flatten(2).transpose(1, 2)
        return self.last(torch.tanh(self.again(torch.tanh(self.again(h)))))


def setting(draws, records=5, dtype=torch.float64):
    torch.manual_seed(1)
    model = Twice().to(dtype)
    x = torch.randn(records, draws, 2, 6, 6, dtype=dtype)

    def losses(part):
        return model(part.flatten(0, 1)).square().mean((1, 2))

    return model, {f"{n}.weight": m.weight for n, m in model.named_children()}, losses, x


def right(weights, losses, x):
    rows = []
    for p in weights.values():
        p.requires_grad_(True)
    for i in range(len(x)):
        grads = torch.autograd.grad(losses(x[i : i + 1]).mean(), list(weights.values()))
        rows.append(torch.stack([g.double().square().sum() for g in grads]))
    return torch.stack(rows)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_parity(draws, micro_batch):
    model, weights, losses, x = setting(draws)
    found = torch.cat(
        list(gradient_squares(model, weights, losses, x, draws=draws, micro_batch=micro_batch))
    )
    assert found.dtype == torch.float64 and torch.allclose(
        found, right(weights, losses, x), rtol=1e-9
    )
    assert all(p.grad is None for p in model.parameters())


def test_checkpointed_layers_are_called_once():
    """Their second call, in the backward pass, is no further one: with it norms of one layer became
    another's.
    """
    model, weights, losses, x = setting(1)
    plain = model.forward
    model.forward = lambda batch: checkpoint(plain, batch, use_reentrant=False)
    (squares,) = gradient_squares(model, weights, losses, x)
    assert torch.allclose(squares, right(weights, losses, x), rtol=1e-9)


def test_small_rooms_and_single_precision(monkeypatch):
    monkeypatch.setattr("sfumato.gradients.scores.ROOM", 10)
    model, weights, losses, x = setting(2, dtype=torch.float32)
    (found,) = gradient_squares(model, weights, losses, x, draws=2)
    assert torch.allclose(found, right(weights, losses, x), rtol=1e-4)


def test_the_order_of_the_weights_is_the_order_of_the_columns():
    model, weights, losses, x = setting(1)
    (found,) = gradient_squares(model, weights, losses, x)
    backwards = dict(reversed(weights.items()))
    (other,) = gradient_squares(model, backwards, losses, x)
    assert torch.equal(found.flip(1), other)


def test_an_empty_batch_gives_nothing():
    model, weights, losses, x = setting(1)
    assert list(gradient_squares(model, weights, losses, x[:0])) == []


def test_a_broken_record_is_nan_and_touches_no_other():
    model, weights, losses, x = setting(2)
    (good,) = gradient_squares(model, weights, losses, x, draws=2)
    x[1, 1, 0, 0, 0], x[3, 1] = float("nan"), float("inf")
    (found,) = gradient_squares(model, weights, losses, x, draws=2)
    assert torch.equal(found[[0, 2, 4]], good[[0, 2, 4]])
    assert found[1].isnan().all() and found[3].isnan().all()


def test_what_has_no_rule_is_refused():
    model, weights, losses, x = setting(1)
    with pytest.raises(ValueError, match="Linear and Conv2d only"):
        list(gradient_squares(model, {"b": model.last.bias}, losses, x))
    with pytest.raises(ValueError, match="not a parameter of the model"):
        list(gradient_squares(model, {"w": nn.Parameter(torch.zeros(2))}, losses, x))
    with pytest.raises(ValueError, match="one loss per row"):
        list(gradient_squares(model, weights, lambda part: losses(part).sum(), x))
    model.unused = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="unused"):
        list(gradient_squares(model, weights | {"u": model.unused.weight}, losses, x))


def test_mixed_precision_around_the_scores_is_refused():
    model, weights, losses, x = setting(1)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="row_losses"):
        list(gradient_squares(model, weights, losses, x))


def test_an_output_changed_in_place_is_noticed():
    model, weights, _, x = setting(1)

    def losses(part):
        h = model.conv(part.flatten(0, 1))
        h *= 2
        return model.last(model.again(h.flatten(2).transpose(1, 2))).square().mean((1, 2))

    with pytest.raises(RuntimeError, match="in place"):
        list(gradient_squares(model, weights, losses, x))


@pytest.mark.parametrize("draws", [1, 3])
def test_the_attention_of_a_dit_is_scored_exactly(draws):
    """A DiT calls its first block's embedder twice; it is no candidate, so its calls are as they
    were.
    """
    case = denoiser("dit", "attention", draws, torch.float64)
    ends = tuple(f"{target}.weight" for target in TARGETS)
    weights = {name: p for name, p in case.trainable.items() if name.endswith(ends)}
    before = case.rows(case.records)
    (found,) = gradient_squares(case.model, weights, case.rows, case.records, draws=draws)
    assert len(weights) == 8 and torch.equal(before, case.rows(case.records))
    assert torch.allclose(found, right(weights, case.rows, case.records), rtol=1e-9)
