"""Others' per-record gradients of the same things: torch.func's vmap(grad) for any K, Opacus' hooks
for K = 1.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from .helpers import STRATEGIES, Case, engine
from .models import MODELS, denoiser


def sums_of(gradients: dict[str, torch.Tensor], bound: float):
    """(clipped sums, norms) of per-record gradients [B, *shape]."""
    norms = torch.cat([g.flatten(1).double() for g in gradients.values()], 1).norm(dim=1)
    factors = (bound / norms.clamp_min(bound)).float()
    return {name: torch.tensordot(factors, g, 1) for name, g in gradients.items()}, norms


def assert_close(got, gradients: dict[str, torch.Tensor], bound: float, bar: float = 1e-5) -> None:
    """Norms are the others', or a little larger where the gradient is never made; the sum is
    theirs, clipped by these norms.
    """
    sums, norms = got
    right = sums_of(gradients, bound)[1]
    assert (norms >= right * (1 - bar)).all() and (norms <= right * (1 + 1e-3)).all()
    factors = bound / norms.clamp_min(bound)
    sums_r = {name: torch.tensordot(factors, g.double(), 1) for name, g in gradients.items()}
    error = torch.cat([(sums[name] - sums_r[name]).flatten() for name in sums_r]).norm()
    assert error <= bar * torch.cat([t.flatten() for t in sums_r.values()]).norm()


class Losses(nn.Module):
    """A denoiser with its losses as one module, for functional_call."""

    def __init__(self, model: nn.Module, conditions):
        super().__init__()
        self.model, self.conditions = model, conditions

    def forward(self, x, target, time, condition):
        out = self.model(x, timestep=time, **self.conditions(condition)).sample
        return (out - target).square().mean()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("which", ["whole", "lora"])
@pytest.mark.parametrize("draws", [1, 3])
def test_vmap(kind, which, draws):
    trained = denoiser(kind, which)
    if kind == "unet":
        condition = torch.randn(4, 3, 8)
        losses = Losses(trained.model, lambda c: {"encoder_hidden_states": c})
    else:
        condition = torch.randint(0, 5, (4,))
        losses = Losses(trained.model, lambda c: {"class_labels": c})
    x, target = torch.randn(2, 4, draws, 2, 4, 4)
    time = torch.randint(0, 1000, (4, draws))
    trainable = {"model." + name: p for name, p in trained.trainable.items()}
    rest = {
        name: t for name, t in losses.state_dict(keep_vars=True).items() if name not in trainable
    }

    def loss(params, *record):
        x, target, time, condition = record
        condition = condition.expand(draws, *condition.shape)
        return functional_call(losses, {**rest, **params}, (x, target, time, condition))

    values = {name: p.detach() for name, p in trainable.items()}
    gradients = vmap(grad(loss), (None, 0, 0, 0, 0))(values, x, target, time, condition)
    bound = float(sums_of(gradients, 1.0)[1].median())

    def rows(i):
        out = losses.model(
            x[i].flatten(0, 1),
            timestep=time[i].flatten(),
            **losses.conditions(condition[i].repeat_interleave(draws, 0)),
        )
        return (out.sample - target[i].flatten(0, 1)).square().mean((1, 2, 3))

    case = Case(losses, trainable, rows, torch.arange(4), draws)
    for strategy in STRATEGIES:
        assert_close(engine(case, bound, strategy), gradients, bound)


class Convolutional(nn.Module):
    """Layers that Opacus has rules for."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.table = nn.Embedding(4, 8)
        self.norm = nn.LayerNorm(8)
        self.lin = nn.Linear(8, 6)

    def forward(self, x, label):
        h = self.group(self.conv(x)).tanh().flatten(2).transpose(1, 2)
        return self.lin(self.norm(h + self.table(label)[:, None])).square().mean((1, 2))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_opacus():
    grad_sample = pytest.importorskip("opacus.grad_sample")
    torch.manual_seed(0)
    model, x, label = Convolutional(), torch.randn(5, 2, 6, 6), torch.randint(0, 4, (5,))
    hooked = grad_sample.GradSampleModule(model, loss_reduction="sum")
    hooked(x, label).sum().backward()
    gradients = {name: p.grad_sample.detach() for name, p in model.named_parameters()}
    hooked.remove_hooks()
    for p in model.parameters():
        p.grad = p.grad_sample = None
    bound = float(sums_of(gradients, 1.0)[1].median())
    case = Case(
        model, dict(model.named_parameters()), lambda i: model(x[i], label[i]), torch.arange(5)
    )
    for strategy in STRATEGIES:
        assert_close(engine(case, bound, strategy), gradients, bound)
