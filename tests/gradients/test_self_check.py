"""Coverage in every step, and the start-up check that finds what coverage cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, self_check
from sfumato.gradients.step import Step

from .models import mlp


def test_layer_not_reached():
    case = mlp()
    model, trainable, batch = case.model, case.trainable, case.records
    x = torch.randn(6, 3)
    with Engine(model, trainable) as engine:
        for losses, message in (
            (lambda i: model[0](x[i]).sum(1), "2.weight: not reached"),
            (
                lambda i: (model[0](x[i]).tanh() @ model[2].weight.t()).sum(1),
                "2.weight: not reached",
            ),
            (lambda i: x[i].sum(1), "do not depend"),
        ):
            with pytest.raises(RuntimeError, match=message):
                engine.clipped_sum(losses, batch, clip=torch.ones_like)


def test_self_check_passes_and_restores():
    case = mlp()
    model, trainable, rows, batch = case.model, case.trainable, case.rows, case.records
    nn.init.zeros_(model[2].weight)
    assert self_check(model, trainable, rows, batch, 1) == []
    assert not model[2].weight.any()
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_self_check_names_dead_tensors():
    case = mlp()
    model, trainable, batch = case.model, case.trainable, case.records
    x = torch.randn(6, 3)

    def softmax(i):
        shift = model[2](model[0](x[i]).tanh()).sum(1, keepdim=True)
        return (torch.cat([shift, shift], 1).softmax(1)[:, 0] + model[0](x[i]).sum(1)).square()

    assert self_check(model, trainable, softmax, batch, 1) == ["2.weight", "2.bias"]


def test_self_check_finds_a_partial_bypass():
    case = mlp()
    model, trainable, batch = case.model, case.trainable, case.records
    x = torch.randn(6, 3)

    def bypass(i):
        return (model(x[i]) + model[0](x[i]) @ model[2].weight.t()).square().sum(1)

    with pytest.raises(RuntimeError, match="self-check"):
        self_check(model, trainable, bypass, batch, 1)
    with pytest.raises(ValueError, match="three synthetic"):
        self_check(model, trainable, bypass, batch[:2], 1)


def test_reached_only_without_gradient():
    """A call under no_grad does not count as reached."""
    case = mlp()
    x = torch.randn(6, 3)

    def rows(i):
        with torch.no_grad():
            h = case.model[0](x[i]).tanh()
        return case.model[2](h).sum(1)

    with Engine(case.model, case.trainable) as engine:
        with pytest.raises(RuntimeError, match=r"0\.weight: not reached"):
            engine.clipped_sum(rows, case.records, clip=torch.ones_like)


def test_self_check_finds_losses_that_depend_on_the_batch():
    """Normalised over the batch, a record's loss is not its own."""
    case = mlp()
    x = torch.randn(6, 3)

    def rows(i):
        out = case.model(x[i])
        return (out - out.mean(0)).square().sum(1) + out.sum(1)

    with pytest.raises(RuntimeError, match="self-check"):
        self_check(case.model, case.trainable, rows, case.records, 1)


def test_self_check_covers_groups(monkeypatch):
    """Groups that take each other's norms bound no group, although the norm of all is right."""
    case = mlp()
    groups = [["0.weight", "0.bias"], ["2.weight", "2.bias"]]
    check = [case.model, case.trainable, case.rows, case.records, 1]
    assert self_check(*check, groups=groups) == []
    right = Step._squares
    monkeypatch.setattr(Step, "_squares", lambda self: right(self).flip(0))
    with pytest.raises(RuntimeError, match="per-record norms differ"):
        self_check(*check, groups=groups)


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_self_check_finds_a_neighbour(size):
    """A little of the other records in a record's loss, which no gradient of its own shows."""
    case = mlp()
    x = torch.randn(6, 3)

    def rows(i):
        others = x[i].sum() - x[i].sum(1)
        return case.model(x[i]).square().sum(1) + size * others

    with pytest.raises(RuntimeError, match="changes with the records beside it"):
        self_check(case.model, case.trainable, rows, case.records, 1)


def test_self_check_finds_losses_that_are_none_of_the_records():
    case = mlp()

    def rows(i):
        return case.model(torch.ones(len(i), 3)).square().sum(1)

    with pytest.raises(RuntimeError, match="does not depend on the record"):
        self_check(case.model, case.trainable, rows, case.records, 1)


def test_self_check_has_two_numbers_of_records():
    """Pieces of two rows are whole batches of two records: only a third one shows them."""
    case = mlp()
    x = torch.randn(6, 3)

    def rows(i):
        return torch.cat([case.model(piece).square().sum(1) for piece in x[i].split(2)])

    with Engine(case.model, case.trainable) as engine:
        engine.clipped_sum(rows, case.records[:2], clip=torch.ones_like)
    with pytest.raises(ValueError, match="0: 2 rows for 3 records"):
        self_check(case.model, case.trainable, rows, case.records, 1)


def test_self_check_takes_no_more_records_than_training_does():
    case = mlp()
    for most in (1, 2, 3, None):
        sizes = []

        def rows(i, sizes=sizes):
            sizes.append(len(i))
            return case.rows(i)

        assert self_check(case.model, case.trainable, rows, case.records, 1, most=most) == []
        assert max(sizes) == (most or 3)
