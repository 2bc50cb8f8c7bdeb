"""A count of rows is no identity: layouts that agree by chance are refused at that very count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.gradients import Engine, isolation

from .helpers import Case, assert_parity
from .models import mlp

T = 6  # records, positions and the size of a piece


class TokensFirst(nn.Module):
    """Tokens before records, as ErnieImage computes."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.lin(x.transpose(0, 1)).transpose(0, 1)


class PackedTokensFirst(TokensFirst):
    def forward(self, x):
        tokens = x.transpose(0, 1)
        out = self.lin(tokens.reshape(-1, 4)).view(tokens.shape)
        return out.transpose(0, 1)


class Positions(nn.Module):
    """A table of positions, one for each place of every record."""

    def __init__(self):
        super().__init__()
        self.lin, self.table = nn.Linear(4, 4), nn.Embedding(T, 4)

    def forward(self, x):
        return self.lin(x) + self.table(torch.arange(T))


class Tables(Positions):
    """The same through a Linear."""

    def forward(self, x):
        return x + self.lin(self.table.weight.detach())


class Buffer(nn.Module):
    """A constant [T, D] times a parameter [D]."""

    def __init__(self):
        super().__init__()
        self.lin, self.scale = nn.Linear(4, 4), nn.Parameter(torch.randn(4))
        self.register_buffer("held", torch.randn(T, 4))

    def forward(self, x):
        return self.lin(x) + self.held * self.scale


class Pieces(nn.Module):
    """A feed-forward chunked along dim 0, in pieces of T rows."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cat([self.lin(piece) for piece in x.split(T)])


SILENT = {
    "tokens first": (TokensFirst, 1),
    "tokens first, drawn": (TokensFirst, 3),
    "tokens first, packed": (PackedTokensFirst, 2),
    "positions": (Positions, 1),
    "positions through a Linear": (Tables, 1),
    "buffer": (Buffer, 1),
    "pieces": (Pieces, 2),
}


def case_of(kind) -> Case:
    torch.manual_seed(0)
    build, draws = SILENT[kind]
    model = build().double()
    tokens = T * draws if build is TokensFirst else T
    x = torch.randn(T, draws, tokens, 4, dtype=torch.float64)

    def rows(i):
        return model(x[i].flatten(0, 1)).sin().mean((1, 2))

    trainable = dict(model.named_parameters())
    if build is Tables:
        trainable.pop("table.weight")
    return Case(model, trainable, rows, torch.arange(T), draws)


@pytest.mark.parametrize("kind", SILENT)
def test_refused_where_the_counts_coincide(kind):
    case = case_of(kind)
    options = {"draws": case.draws, "clip": torch.ones_like}
    with Engine(case.model, case.trainable) as engine:
        with pytest.raises(ValueError, match=r"laid out by record|rows for|grow with the records"):
            engine.clipped_sum(case.rows, case.records, **options)
        # also where what was tried before agreed: a single record, whose rows are all its own
        engine.clipped_sum(case.rows, case.records[:1], **options)
        with pytest.raises(ValueError, match=r"laid out by record|rows for|grow with the records"):
            engine.clipped_sum(case.rows, case.records, **options)


def test_pieces_are_taken_while_they_are_whole():
    """Three records with two draws are one piece of six rows; more records are refused."""
    case = case_of("pieces")
    case.records = torch.arange(3)
    assert_parity(case, 1e-10)
    with Engine(case.model, case.trainable) as engine, pytest.raises(ValueError, match="grow with"):
        engine.clipped_sum(case.rows, torch.arange(T), draws=2, clip=torch.ones_like)


@pytest.mark.parametrize("records", [2, 3, 5])
def test_the_packed_layout_is_refused_at_any_count(records):
    """It has a multiple of the records' rows whatever their number is."""
    case = case_of("tokens first, packed")
    with Engine(case.model, case.trainable) as engine, pytest.raises(ValueError, match="lin: the"):
        engine.clipped_sum(case.rows, case.records[:records], draws=2, clip=torch.ones_like)


def test_records_that_mix_are_refused():
    case = mlp()
    x = torch.randn(6, 3)

    def rows(i):
        out = case.model(x[i])
        return F.softmax(out, 0).sum(1)

    with Engine(case.model, case.trainable) as engine, pytest.raises(ValueError, match="mix"):
        engine.clipped_sum(rows, case.records, clip=torch.ones_like)


def test_tried_once_for_all_engines_of_the_same_losses(monkeypatch):
    case, tried = mlp(), []
    right = isolation.Watch.require_own
    monkeypatch.setattr(
        isolation.Watch,
        "require_own",
        lambda self, label, g: (tried.append(self.records), right(self, label, g))[1],
    )
    for _ in range(2):
        with Engine(case.model, case.trainable) as engine:
            for n in (1, 6, 4):
                engine.clipped_sum(case.rows, case.records[:n], clip=torch.ones_like)
    assert tried == [3] * 6  # three records, two layers
    with Engine(case.model, case.trainable) as engine:
        engine.clipped_sum(lambda i: case.rows(i) + 0, case.records, clip=torch.ones_like)
    assert tried == [3] * 12


def test_a_try_leaves_the_sum_as_it_is():
    case = mlp()
    with Engine(case.model, case.trainable) as engine:
        tried, known = (
            engine.clipped_sum(case.rows, case.records, clip=torch.ones_like) for _ in range(2)
        )
    assert torch.equal(tried[1], known[1])
    assert all(torch.equal(value, known[0][name]) for name, value in tried[0].items())


def test_a_record_that_is_not_finite_is_no_layout():
    """0 * inf is NaN in the rows of others; they are rejected, not refused."""
    case = mlp()
    x = torch.randn(6, 3)
    x[0] = torch.inf

    def rows(i):
        return case.model(x[i]).square().sum(1)

    with Engine(case.model, case.trainable) as engine:
        _, norms = engine.clipped_sum(rows, case.records, clip=torch.ones_like)
    assert norms.isfinite().tolist() == [False] + 5 * [True]
