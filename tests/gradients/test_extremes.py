"""One record with extreme numbers beside ordinary ones: what it adds to the sum, and what it does
to the others.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine
from sfumato.privacy.clipping import flat as clip_flat

from .helpers import STRATEGIES, flat

CLIP = 1.0


class Pairs:
    """Inputs and output gradients of one layer, by record: the loss is their inner product, so g is
    what it says.
    """

    def __init__(self, x, g):
        self.x, self.g = x, g

    def __len__(self):
        return len(self.x)

    def __getitem__(self, part):
        return Pairs(self.x[part], self.g[part])


def moved(layer: nn.Module, x, g, victim: int, strategy: str, clip_norm: float = CLIP) -> float:
    """||S(D) - S(D without the victim)|| / C on the clipped sum; infinity if the sum is not
    finite.
    """

    def losses(batch):
        out = layer(batch.x)
        return (torch.where(batch.g == 0, 0.0, out) * batch.g).flatten(1).sum(1)

    rest = [i for i in range(len(x)) if i != victim]
    clip = clip_flat(clip_norm).factors
    with Engine(layer, {"weight": layer.weight}, strategy=strategy) as engine:
        everyone, _ = engine.clipped_sum(losses, Pairs(x, g), clip=clip)
        others, _ = engine.clipped_sum(losses, Pairs(x[rest], g[rest]), clip=clip)
    difference = everyone["weight"].double() - others["weight"].double()
    return (
        float(difference.norm()) / clip_norm
        if torch.isfinite(everyone["weight"]).all()
        else float("inf")
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [1e4, 1e8, 1e15])
@pytest.mark.parametrize("epsilon", [0.0, 2.0**-12, 2.0**-23])
def test_huge_tokens_that_cancel_do_not_swallow_the_others(strategy, size, epsilon):
    """The gradient is nearly nothing, but each of its tokens is larger than all other records
    together.
    """
    torch.manual_seed(0)
    x, g = torch.ones(6, 2, 32), torch.rand(6, 2, 32) * 0.1
    x[3, 1] = 1 + epsilon
    g[3, 0], g[3, 1] = size, -size
    assert moved(nn.Linear(32, 32, bias=False), x, g, 3, strategy) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tokens_too_large_for_single_precision_add_nothing_or_at_most_the_bound(strategy):
    x, g = torch.ones(5, 2, 16), torch.full((5, 2, 16), 0.1)
    x[2], g[2, 0], g[2, 1] = 1e20, 1e20, -1e20
    assert moved(nn.Linear(16, 16, bias=False), x, g, 2, strategy) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_for_convolutions(strategy):
    torch.manual_seed(0)
    x, g = torch.ones(5, 3, 6, 6), torch.rand(5, 4, 6, 6) * 0.01
    g[1] = 0
    g[1, :, 2, 2], g[1, :, 3, 3] = 1e9, -1e9
    assert moved(nn.Conv2d(3, 4, 3, padding=1, bias=False), x, g, 1, strategy) <= 1


def test_the_same_for_an_embedding():
    ids, g = torch.tensor([[0, 1], [2, 2], [1, 0], [0, 0]]), torch.full((4, 2, 8), 0.1)
    g[1, 0], g[1, 1] = 1e9, -1e9
    g[0] = 0.05
    assert moved(nn.Embedding(3, 8), ids, g, 1, "auto") <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tokens", [1, 40])
def test_large_even_gradients_are_not_measured_too_small(strategy, tokens):
    """Squares of a million equal numbers, added up in single precision, come out a thousandth
    short.
    """
    layer = nn.Linear(512, 512, bias=False)
    x, g = torch.ones(3, tokens, 512), torch.full((3, tokens, 512), 1.1)
    g[1:] = 1e-6
    assert moved(layer, x, g, 0, strategy) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_dead_token_does_not_hide_a_tiny_one(strategy):
    """Squared, the live tokens' inputs vanish in single precision; times their gradients they do
    not.
    """
    x, g = torch.full((2, 9, 64), 2.4e-23), torch.zeros(2, 9, 64)
    x[0, 0], g[0, 1:] = 1.0, 1e18
    g[1] = 1e-9
    assert moved(nn.Linear(64, 64, bias=False), x, g, 0, strategy, 1e-3) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("exponent", [44.9, 45.0, 45.05, 45.13])
def test_factors_too_small_for_single_precision_are_zero(strategy, exponent):
    size = 10 ** (exponent / 2)
    x, g = torch.full((2, 1, 4), 1e-9), torch.full((2, 1, 4), 1e-9)
    x[0] = g[0] = size
    assert moved(nn.Linear(4, 4, bias=False), x, g, 0, strategy) <= 1


def test_the_helpers_clip_is_not_the_one_that_is_used():
    """Plain flat clipping leaves no room for rounding: the margin belongs to `privacy.clipping`."""
    norms = torch.tensor([3.0], dtype=torch.float64)
    assert float(clip_flat(1.0).factors(norms)) < float(flat(1.0)(norms))
