"""The integers that clipped gradients are added up in: exact where they are exact, and within rho's
share where they are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from sfumato.gradients import Engine, step
from sfumato.gradients.cost import USUAL
from sfumato.gradients.grams import gamma
from sfumato.gradients.layout import Layout
from sfumato.gradients.sums import LOT, Sums, close_enough, lengths
from sfumato.privacy.clipping import flat
from sfumato.privacy.rounding import Rounding

from .helpers import STRATEGIES

CLIP = 0.25
# For far more numbers than train here: so fine that the last bits of a float32 sum would be seen.
FINE = Rounding.of(CLIP, 10**9)


@dataclass
class Pairs:
    """Inputs and output gradients of one layer, by record: the loss is their inner product."""

    x: Tensor
    g: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part) -> Pairs:
        return Pairs(self.x[part], self.g[part])


class Model(nn.Module):
    """Two layers side by side: gradients of `first` are kept, made or taken as products, those of
    `last` are rows of a table.
    """

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Embedding(4, 8)

    def losses(self, part: Pairs) -> Tensor:
        ids = torch.arange(part.x.shape[1]).expand(part.x.shape[:2]) % 4
        return ((self.first(part.x) + self.last(ids)) * part.g).flatten(1).sum(1)


def made(model: nn.Module, losses, part: Pairs, way: str, grid=FINE, micro_batch=None):
    """The integer sums as one list, and the norms."""
    with Engine(model, dict(model.named_parameters()), strategy=way) as engine:
        sums, norms = engine.clipped_sum(
            losses, part, clip=flat(CLIP).factors, rounding=grid, micro_batch=micro_batch
        )
    assert all(value.dtype == torch.int64 for value in sums.values())
    return torch.cat([value.flatten() for value in sums.values()]), norms


def hostile(records: int, seed: int = 0) -> Pairs:
    """Tokens that cancel to nearly nothing, and one record of them huge."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(records, 1, 8, generator=g).expand(records, 16, 8).clone()
    sign = torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(2)[:, None]  # in each row of the table, too
    y = torch.randn(records, 1, 8, generator=g) * sign + 1e-3 * torch.randn(
        records, 16, 8, generator=g
    )
    y[0] *= 1e6
    return Pairs(x, y)


def usual(records: int, seed: int = 1) -> Pairs:
    g = torch.Generator().manual_seed(seed)
    return Pairs(torch.randn(records, 16, 8, generator=g), torch.randn(records, 16, 8, generator=g))


@pytest.mark.parametrize("grid", [Rounding.of(CLIP, 64), FINE])
@pytest.mark.parametrize("records", [1, 5, 400])
def test_rows_add_up_to_the_integers_of_each_record(grid, records):
    """In whatever blocks they are added, beyond what float32 holds, too."""
    layer = nn.Linear(8, 8, bias=False)
    sums = Sums(Layout({"w": layer.weight}, [], [], None, USUAL), grid)
    g = torch.Generator().manual_seed(0)
    rows = (torch.rand(records, 64, generator=g) + 0.5) * 10.0
    factors = flat(CLIP).factors(rows.double().norm(dim=1))
    sums.add_rows(sums.weight("w").view(-1), rows, factors)
    divisors = (grid.step / factors).float()
    right = [
        sum(math.trunc(v) for v in column) for column in (rows / divisors[:, None]).t().tolist()
    ]
    assert sums.weight("w").flatten().tolist() == right


def test_rounding_makes_no_record_larger():
    """Towards zero: a record that was clipped to the bound stays inside it, and none is taken out
    for what rounding did.
    """
    grid = Rounding.of(CLIP, 64)
    layer = nn.Linear(8, 8, bias=False)
    sums = Sums(Layout({"w": layer.weight}, [], [], None, USUAL), grid)
    rows = (
        (torch.arange(64).float() % 7 + 0.75)[None]
        * torch.tensor([1.0, -1.0]).repeat(32)
        * grid.step
    )
    squares = sums.add_rows(sums.weight("w").view(-1), rows, torch.ones(1, dtype=torch.float64))
    whole = sums.weight("w").flatten().double()
    assert (whole.abs() * grid.step <= rows[0].double().abs()).all() and whole.any()
    assert float(squares[0]) == pytest.approx(float(whole.square().sum()), rel=1e-4)


def test_a_product_is_rounded_once_to_the_plans_grid_however_large_it_is():
    layer = nn.Linear(8, 8, bias=False)
    for records in (1, 1000):
        sums = Sums(Layout({"w": layer.weight}, [], [], None, USUAL), Rounding.of(CLIP, 64))
        part = usual(records)
        exact = torch.einsum("bnp,bnd->pd", part.g.double(), part.x.double()) / sums.grid.step
        sums.add_products(sums.weight("w"), [[exact / 4, 3 * exact / 4]])
        assert float((sums.weight("w") - exact).abs().max()) <= 0.5 + 1e-6


@pytest.mark.parametrize("way", STRATEGIES)
def test_micro_batches_add_up_to_the_last_unit(way):
    """No microbatch changes a bit of another: whatever fallback a hostile record needs ends with
    its own.
    """
    torch.manual_seed(0)
    model, first, last = Model(), hostile(64), usual(64)
    both = Pairs(torch.cat([first.x, last.x]), torch.cat([first.g, last.g]))
    whole, _ = made(model, model.losses, both, way, micro_batch=64)
    alone = [made(model, model.losses, part, way)[0] for part in (first, last)]
    assert torch.equal(whole, alone[0] + alone[1])


@pytest.mark.parametrize("way", STRATEGIES)
@pytest.mark.parametrize("alone", ["first", "last", None])
def test_a_record_over_the_limit_adds_nothing_and_changes_nothing(way, alone):
    """Were a norm or a factor wrong, the integers' own norm would still be looked at, over all
    layers together.
    """
    torch.manual_seed(0)
    model, part = Model(), usual(6)
    if alone is not None:
        (model.last if alone == "first" else model.first).requires_grad_(False)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def total(share: float) -> Tensor:
        def clip(norms: Tensor) -> Tensor:
            return (
                CLIP / norms * torch.tensor([0.9, 0.9, share, 0.9, 0.9, 0.9], dtype=torch.float64)
            )

        with Engine(model, trainable, strategy=way) as engine:
            sums, _ = engine.clipped_sum(
                model.losses, part, clip=clip, rounding=Rounding.of(CLIP, 100)
            )
        return torch.cat([value.flatten() for value in sums.values()])

    assert torch.equal(total(1.05), total(0.0))
    assert not torch.equal(total(0.95), total(0.0))


def distance(grid, many: Tensor, sizes: Tensor, positions: Tensor) -> float:
    """Most that one lot's products are off by: each weight's by its own gamma times its sizes."""
    terms = [
        gamma(int(m * n) + 4, torch.float32 if m else torch.float64)
        for m, n in zip(many, positions, strict=True)
    ]
    return float((torch.tensor(terms, dtype=torch.float64) * sizes).norm())


@pytest.mark.parametrize("share", [1e-3, 0.5, 1.0, 10.0, 4096.0])
@pytest.mark.parametrize("below", [0.0, 1e-4])
def test_a_product_in_single_precision_is_as_long_as_its_error_bound_allows(share, below):
    """All products of a lot together: at most 3/8 rho C, for the sizes that it has; and not much
    shorter than they could be.
    """
    grid, records = Rounding.of(CLIP, 64), 32
    allowed = 0.375 * grid.slack * CLIP
    positions, costs = torch.tensor([1, 16, 16, 64, 256]), torch.tensor([64.0, 1e5, 1e3, 1e5, 1e6])
    sizes = share * CLIP * torch.tensor([3.0, 30.0, 1.0, 60.0, 2.0], dtype=torch.float64)
    off = torch.tensor([below * CLIP], dtype=torch.float64)
    (many,) = lengths(grid, sizes[None], off, positions, records, costs)
    assert (
        distance(grid, many, sizes, positions) + below * CLIP <= allowed and (many <= records).all()
    )
    twice = (2 * many).clamp_max(records)
    assert (twice == many).all() or distance(
        grid, twice, sizes, positions
    ) + below * CLIP > 0.9 * allowed


def test_sizes_that_allow_no_product_in_single_precision_ask_for_float64():
    grid, one = Rounding.of(CLIP, 64), torch.ones(1, 1, dtype=torch.float64)

    def many(size: float, below: float = 0.0, grid=grid) -> int:
        return int(
            lengths(grid, size * one, below * one[0], torch.tensor([16]), 32, torch.tensor([1.0]))
        )

    assert many(CLIP) == 32 and many(1e6 * CLIP) == 0
    assert (
        many(float("inf")) == many(float("nan")) == many(CLIP, CLIP) == many(CLIP, grid=None) == 0
    )


def test_a_lot_with_a_hopeless_weight_leaves_the_others_what_its_float64_does_not_need():
    grid, positions = Rounding.of(CLIP, 64), torch.tensor([16, 1024])
    sizes = CLIP * torch.tensor([100.0, 100.0], dtype=torch.float64)
    (many,) = lengths(
        grid,
        sizes[None],
        torch.zeros(1, dtype=torch.float64),
        positions,
        32,
        torch.tensor([1e3, 1e3]),
    )
    assert many.tolist() == [30, 0] or (many[0] >= 16 and many[1] == 0)
    assert distance(grid, many, sizes, positions) <= 0.375 * grid.slack * CLIP


@pytest.mark.parametrize("records", [1, 1000, 10**6])
def test_a_product_in_float64_is_used_where_its_shape_proves_it_close(records):
    """The sum of sizes is at most 4,096 C for each record: gamma of all roundings in a row, times
    that, is within 3/8 rho C.
    """
    slack = Rounding.of(CLIP, 64).slack
    fits = [terms for terms in (2**e for e in range(40)) if close_enough(terms, records, slack)]
    assert fits and gamma(max(fits), torch.float64) * records * 4096 <= 0.375 * slack
    assert gamma(8 * max(fits), torch.float64) * records * 4096 > 0.375 * slack


def test_products_follow_what_tokens_add_up_to_and_not_what_is_left_of_them(monkeypatch):
    """Records whose tokens cancel: what a product may be off by follows the sum of their sizes,
    over every record of a lot.
    """
    g = torch.Generator().manual_seed(5)
    layer, records = nn.Linear(8, 8, bias=False), LOT + 8
    x = torch.rand(1, 1, 8, generator=g).expand(1, 16, 8) + 2e-3 * torch.rand(1, 16, 8, generator=g)
    y = torch.rand(1, 1, 8, generator=g) * torch.tensor([1.0] * 8 + [-1.0] * 8)[:, None]
    part = Pairs(*(t.expand(records, -1, -1).contiguous() for t in (x, y)))
    asked = []
    monkeypatch.setattr(
        step,
        "lengths",
        lambda grid, sizes, *rest: asked.append(sizes) or lengths(grid, sizes, *rest),
    )
    found, norms = made(
        layer,
        lambda p: (layer(p.x) * p.g).flatten(1).sum(1),
        part,
        "ghost",
        grid=Rounding.of(CLIP, 64),
    )
    factors, tokens = (
        flat(CLIP).factors(norms),
        (x[0].double().norm(dim=1) * y[0].double().norm(dim=1)).sum(),
    )
    right = torch.stack([factors[:LOT].sum(), factors[LOT:].sum()]) * tokens
    assert (asked[0][:, 0] >= right).all() and (asked[0][:, 0] <= 1.01 * right).all()
    exact = (factors[0] * (y[0].double().t() @ x[0].double()) * records).flatten()
    grid = Rounding.of(CLIP, 64)
    assert float((found * grid.step - exact).norm()) <= 2 * (
        0.375 * grid.slack * CLIP + 0.5 * grid.step * 8
    )
