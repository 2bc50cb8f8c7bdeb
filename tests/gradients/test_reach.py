"""Tensors that get no gradient are named; those that get little are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import unreached


class Attention(nn.Module):
    """Queries, keys with a bias, values; a branch that is never taken; one that counts little."""

    def __init__(self, scale=1e-4):
        super().__init__()
        self.to_q, self.to_k, self.to_v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.unused, self.out = nn.Linear(8, 8), nn.Linear(8, 8)
        self.little, self.scale = nn.Linear(8, 8), scale
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        scores = self.to_q(x) @ self.to_k(x).transpose(1, 2)
        return self.out(scores.softmax(-1) @ self.to_v(x)) + self.scale * self.little(x)


def records(n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    for _ in range(n):
        x = torch.randn(1, 12, 8, generator=g)
        yield x, x * (1 + 2.0**-12)


def losses(model):
    return lambda x: model(x).square().mean((1, 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_a_key_bias_and_a_branch_are_named(seed, scale):
    torch.manual_seed(seed)
    model = Attention(scale)
    trainable = dict(model.named_parameters())
    before = {name: p.clone() for name, p in trainable.items()}
    found = unreached(trainable, losses(model), records(seed=seed))
    assert found == {
        "to_k.bias": "no gradient",
        "unused.weight": "unreached",
        "unused.bias": "unreached",
    }
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in trainable.items())


def test_all_is_well_after_one_record():
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
    asked = []

    def one_by_one():
        for pair in records():
            asked.append(len(asked))
            yield pair

    assert unreached(dict(model.named_parameters()), losses(model), one_by_one()) == {}
    assert asked == [0]


def test_data_may_not_decide():
    """What the first record does not reach, later ones must not: the rest is the self-check's."""
    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
    trainable = dict(model.named_parameters())

    def rows(x):
        out = model[0](x)
        return (model[1](out) if x.sum() > 0 else out).square().mean((1, 2))

    xs = [torch.full((1, 3, 8), v) for v in (-0.5, 0.5)]
    with pytest.raises(ValueError, match=r"1\.weight: reached by some records"):
        unreached(trainable, rows, [(x, x) for x in xs])


def test_nothing_at_all():
    model = Attention()
    with pytest.raises(ValueError, match="no tensor"):
        unreached({"u": model.unused.weight}, losses(model), records())
