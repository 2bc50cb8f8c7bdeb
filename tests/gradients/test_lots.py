"""Products are added up and rounded lot by lot: a record changes its own lot alone, and
convolutions add plain products.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, rules
from sfumato.gradients.sums import LOT, Sums

from .helpers import flat

RECORDS, BOUND = 2 * LOT + 6, 1.0
GRID = SimpleNamespace(slack=2.0**-7, step=2.0**-16, bound=int(BOUND * 2**16 * (1 + 2.0**-7)) + 1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(16, 24, 1),
        nn.Flatten(),
        nn.Linear(24 * 16, 8),
    )


def test_a_record_moves_its_own_lot_alone(model, monkeypatch):
    """Whatever stands in its place, be it something that needs another way of adding up: no other
    lot changes by a bit.
    """
    rounded: list[list] = []
    plain = Sums.add_products

    def watch(self, total, lots):
        made, before = [], total.clone()
        for lot in lots:
            plain(self, total, iter([lot]))
            made.append(total - before)
            before = total.clone()
        rounded[-1].append(made)

    monkeypatch.setattr(Sums, "add_products", watch)
    g = torch.Generator().manual_seed(1)
    data = torch.randn(RECORDS, 3, 4, 4, generator=g)

    def run(x):
        rounded.append([])
        losses = lambda part: model(part).square().mean(1)  # noqa: E731
        with Engine(model, dict(model.named_parameters()), strategy="ghost") as engine:
            engine.clipped_sum(losses, x, clip=flat(BOUND * 0.999), rounding=GRID)
        return rounded[-1]

    first = run(data)
    assert [len(layer) for layer in first] == [3, 3, 3]
    assert all(bool(lot.any()) for layer in first for lot in layer)
    for other in (
        torch.full((3, 4, 4), 1e4),
        torch.full((3, 4, 4), torch.nan),
        torch.zeros(3, 4, 4),
    ):
        changed = data.clone()
        changed[LOT + 3] = other
        for before, after in zip(first, run(changed), strict=True):
            same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert same == [True, False, True]


@pytest.mark.parametrize(
    "shape", [(26, 64, 128, 4), (3, 128, 64, 8), (1, 16, 16, 32), (13, 8, 24, 5)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_add_plain_products(shape, stride):
    """The bound on a product's rounding is one for sums of products. Of whole numbers these are
    exact; those of a Winograd or Fourier transform are not.
    """
    rows, channels, out, side = shape
    module = nn.Conv2d(channels, out, 3, padding=1, stride=stride)
    if not rules.sums_in_place(module, module.weight):
        pytest.skip("not used here")
    g = torch.Generator().manual_seed(2)
    x = torch.randint(-30, 31, (rows, channels, side, side), generator=g).float()
    size = (side - 1) // stride + 1
    grad = torch.randint(-30, 31, (rows, out, size, size), generator=g).float()
    product = rules.conv_weight_grad(module, x, grad)
    exact = (
        rules.output_columns(module, grad, 1).double()[0].t()
        @ rules.columns(module, x, 1).double()[0]
    )
    assert torch.equal(product.double().flatten(1), exact)


def test_channels_last_is_a_layout_and_changes_no_sum(model):
    """A convolution hands its weight's gradient over in the layout of its input."""
    data = torch.randn(RECORDS, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        losses = lambda part, layout=layout: (  # noqa: E731
            model(part.contiguous(memory_format=layout)).square().mean(1)
        )
        with Engine(model, dict(model.named_parameters()), strategy="ghost") as engine:
            found.append(
                engine.clipped_sum(losses, data, clip=flat(BOUND * 0.999), rounding=GRID)[0]
            )
    for name, value in found[0].items():
        assert float((value - found[1][name]).double().norm()) <= 0.75 * GRID.slack * GRID.bound
        assert torch.any(value != 0)
