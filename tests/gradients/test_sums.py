"""The integers that clipped gradients are added up in: exact where they are exact, and within rho's share where they are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from sfumato.gradients import Engine
from sfumato.gradients.layout import Layout
from sfumato.gradients.rules import gamma
from sfumato.gradients.sums import EACH, Room, Sums, close_enough
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
    """Two layers side by side: gradients of `first` are kept, made or taken as products, those of `last` are rows of a table."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Embedding(4, 8)

    def losses(self, part: Pairs) -> Tensor:
        ids = torch.arange(part.x.shape[1]).expand(part.x.shape[:2]) % 4
        return ((self.first(part.x) + self.last(ids)) * part.g).flatten(1).sum(1)


def made(model: nn.Module, losses, part: Pairs, way: str, grid=FINE, micro_batch=None):
    """The integer sums as one list, and the norms."""
    with Engine(model, dict(model.named_parameters()), strategy=way) as engine:
        sums, norms = engine.clipped_sum(losses, part, clip=flat(CLIP).factors, rounding=grid, micro_batch=micro_batch)
    assert all(value.dtype == torch.int64 for value in sums.values())
    return torch.cat([value.flatten() for value in sums.values()]), norms


def hostile(records: int, seed: int = 0) -> Pairs:
    """Tokens that cancel to nearly nothing, and one record of them huge."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(records, 1, 8, generator=g).expand(records, 16, 8).clone()
    sign = torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(2)[:, None]  # in each row of the table, too
    y = torch.randn(records, 1, 8, generator=g) * sign + 1e-3 * torch.randn(records, 16, 8, generator=g)
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
    sums = Sums(Layout({"w": layer.weight}, [], [], None), grid)
    g = torch.Generator().manual_seed(0)
    rows = (torch.rand(records, 64, generator=g) + 0.5) * 10.0
    factors = flat(CLIP).factors(rows.double().norm(dim=1))
    sums.add_rows(sums.weight("w").view(-1), rows, factors)
    divisors = (grid.step / factors).float()
    right = [sum(math.trunc(v) for v in column) for column in (rows / divisors[:, None]).t().tolist()]
    assert sums.weight("w").flatten().tolist() == right


def test_rounding_makes_no_record_larger():
    """Towards zero: a record that was clipped to the bound stays inside it, and none is taken out for what rounding did."""
    grid = Rounding.of(CLIP, 64)
    layer = nn.Linear(8, 8, bias=False)
    sums = Sums(Layout({"w": layer.weight}, [], [], None), grid)
    rows = (torch.arange(64).float() % 7 + 0.75)[None] * torch.tensor([1.0, -1.0]).repeat(32) * grid.step
    squares = sums.add_rows(sums.weight("w").view(-1), rows, torch.ones(1, dtype=torch.float64))
    whole = sums.weight("w").flatten().double()
    assert (whole.abs() * grid.step <= rows[0].double().abs()).all() and whole.any()
    assert float(squares[0]) == pytest.approx(float(whole.square().sum()), rel=1e-4)


def test_a_product_is_rounded_once_to_the_plans_grid_however_large_it_is():
    layer = nn.Linear(8, 8, bias=False)
    for records in (1, 1000):
        sums = Sums(Layout({"w": layer.weight}, [], [], None), Rounding.of(CLIP, 64))
        part = usual(records)
        sums.add_product(sums.weight("w"), [(part.x.double(), part.g.double())], 0)
        exact = torch.einsum("bnp,bnd->pd", part.g.double(), part.x.double()) / sums.grid.step
        assert float((sums.weight("w") - exact).abs().max()) <= 0.5 + 1e-6


@pytest.mark.parametrize("way", STRATEGIES)
def test_micro_batches_add_up_to_the_last_unit(way):
    """No micro-batch changes a bit of another: whatever fallback a hostile record needs ends with its own."""
    torch.manual_seed(0)
    model, first, last = Model(), hostile(64), usual(64)
    both = Pairs(torch.cat([first.x, last.x]), torch.cat([first.g, last.g]))
    whole, _ = made(model, model.losses, both, way, micro_batch=64)
    alone = [made(model, model.losses, part, way)[0] for part in (first, last)]
    assert torch.equal(whole, alone[0] + alone[1])


@pytest.mark.parametrize("way", STRATEGIES)
@pytest.mark.parametrize("alone", ["first", "last", None])
def test_a_record_over_the_limit_adds_nothing_and_changes_nothing(way, alone):
    """Were a norm or a factor wrong, the integers' own norm would still be looked at, over all layers together."""
    torch.manual_seed(0)
    model, part = Model(), usual(6)
    if alone is not None:
        (model.last if alone == "first" else model.first).requires_grad_(False)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def total(share: float) -> Tensor:
        def clip(norms: Tensor) -> Tensor:
            return CLIP / norms * torch.tensor([0.9, 0.9, share, 0.9, 0.9, 0.9], dtype=torch.float64)

        with Engine(model, trainable, strategy=way) as engine:
            sums, _ = engine.clipped_sum(model.losses, part, clip=clip, rounding=Rounding.of(CLIP, 100))
        return torch.cat([value.flatten() for value in sums.values()])

    assert torch.equal(total(1.05), total(0.0))
    assert not torch.equal(total(0.95), total(0.0))


@pytest.mark.parametrize("share", [1e-3, 0.5, 1.0, 10.0, 4096.0])
@pytest.mark.parametrize("below", [0.0, 1e-4])
def test_a_block_in_single_precision_is_as_long_as_its_error_bound_allows(share, below):
    """All products of a micro-batch together: at most 3/8 rho C, for the sizes that it has."""
    grid = Rounding.of(CLIP, 64)
    allowed, sizes = 0.375 * grid.slack * CLIP, share * CLIP * 100
    room = Room(grid, torch.float32, sizes, below * CLIP)
    assert gamma(room.longest, torch.float32) * sizes + below * CLIP <= allowed
    if below == 0 and gamma(1000, torch.float32) * sizes < allowed:
        assert room.longest >= 1000  # and not much shorter than it could be
    for positions in (1, 16, 1000):
        for simple in (True, False):
            assert (together := room.together(positions, simple)) * positions + EACH <= max(room.longest, EACH) or not together


def test_sizes_that_allow_no_block_ask_for_float64():
    grid = Rounding.of(CLIP, 64)
    assert Room(grid, torch.float32, 1e6 * CLIP, 0.0).together(16, False) == 0
    assert Room(grid, torch.float32, float("inf"), 0.0).longest == Room(grid, torch.float64, CLIP, 0.0).longest == 0
    assert Room(grid, torch.float32, CLIP, CLIP).longest == 0


@pytest.mark.parametrize("records", [1, 1000, 10**6])
def test_a_product_in_float64_is_used_where_its_shape_proves_it_close(records):
    """The sum of sizes is at most 4,096 C for each record: gamma of all roundings in a row, times that, is within 3/8 rho C."""
    slack = Rounding.of(CLIP, 64).slack
    fits = [terms for terms in (2**e for e in range(40)) if close_enough(terms, records, slack)]
    assert fits and gamma(max(fits), torch.float64) * records * 4096 <= 0.375 * slack
    assert gamma(8 * max(fits), torch.float64) * records * 4096 > 0.375 * slack


def test_blocks_follow_what_tokens_add_up_to_and_not_what_is_left_of_them():
    """A thousand equal records whose tokens cancel: what single precision loses in each adds up."""
    g = torch.Generator().manual_seed(5)
    layer, grid, records = nn.Linear(8, 8, bias=False), Rounding.of(CLIP, 64), 1000
    x = torch.rand(1, 1, 8, generator=g).expand(1, 16, 8) + 2e-3 * torch.rand(1, 16, 8, generator=g)
    y = torch.rand(1, 1, 8, generator=g) * torch.tensor([1.0] * 8 + [-1.0] * 8)[:, None]
    part = Pairs(*(t.expand(records, -1, -1).contiguous() for t in (x, y)))
    found, norms = made(layer, lambda p: (layer(p.x) * p.g).flatten(1).sum(1), part, "ghost", grid=grid)
    exact = (flat(CLIP).factors(norms)[0] * (y[0].double().t() @ x[0].double()) * records).flatten()
    assert float((found * grid.step - exact).norm()) <= 0.375 * grid.slack * CLIP + 0.5 * grid.step * 8
