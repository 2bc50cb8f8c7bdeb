"""Planted faults: each one, put into the real code, must make the check that is meant for
it fail.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sfumato.gradients import Engine, broadcast, engine, grams, isolation
from sfumato.gradients.step import Step

from .helpers import assert_exact_norms, assert_parity, assert_sensitivity
from .models import block, cancelling, mlp, opposed, small


def wrap(monkeypatch, owner, name: str, make: Callable) -> None:
    """Replace `owner.name` by make(original)."""
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def parity(strategy="auto", draws=3):
    assert_parity(block(draws), 1e-10, [(strategy, None)])


def sensitivity(strategy="auto", draws=3):
    case, data = small(4, draws)
    data["w"] = torch.tensor([1.0, 1e3, 1e3, 0.1])
    assert_sensitivity(case, 0.3, [strategy])


def rejection():
    case, data = small(4, 3)
    data["x"][1] = float("inf")
    assert_sensitivity(case, 0.3)


def cancellation():
    assert_exact_norms(*cancelling(77, 0.1))
    assert_exact_norms(*cancelling(16, 0.2))  # alike, but not so much that the guard steps in
    assert_exact_norms(*cancelling(77, 1e-4, torch.float32))


def cross_terms():
    assert_exact_norms(*opposed())


def freshness():
    case = mlp()
    with Engine(case.model, case.trainable) as one_pass:
        case.model[2].weight = nn.Parameter(torch.ones(2, 5))
        try:
            one_pass.clipped_sum(case.rows, case.records, clip=torch.ones_like)
        except RuntimeError as error:
            assert "2.weight: replaced" in str(error)
        else:
            raise AssertionError("the sum belongs to a parameter that the model no longer has")


def last_call_only(monkeypatch):
    def make(arrive):
        return lambda self, layer, x, g: (
            None if layer.weight in self.reached else arrive(self, layer, x, g)
        )

    wrap(monkeypatch, Step, "arrive", make)


def layer_dropped(monkeypatch):
    def make(arrive):
        return lambda self, layer, x, g: arrive(
            self, layer, x, g * 0 if layer.path == "time" else g
        )

    wrap(monkeypatch, Step, "arrive", make)


def missing_cross_term(monkeypatch):
    """Norms of the positions and calls by themselves."""
    wrap(monkeypatch, grams, "gram", lambda _: lambda t: torch.diag_embed(t.square().sum(2)))


def per_copy_clipping(monkeypatch):
    """Every draw a record of its own."""

    def make_init(init):
        def separate(self, layout, strategy, records, draws, slack):
            init(self, layout, strategy, records * draws, 1, slack)
            self.copies = draws

        return separate

    def make_finish(finish):
        def together(self, clip, finite, sums):
            norms = finish(self, clip, finite.repeat_interleave(self.copies), sums)
            return norms.view(-1, self.copies).mean(1)

        return together

    def make_placed(placed):
        return lambda tables, records, draws: placed(tables, records * draws, 1)

    wrap(monkeypatch, Step, "__init__", make_init)
    wrap(monkeypatch, engine, "Watch", lambda watch: lambda n, draws: watch(n * draws, 1))
    wrap(monkeypatch, Step, "finish", make_finish)
    wrap(monkeypatch, engine, "placed", make_placed)


def mean_for_sum(monkeypatch):
    def make(finish):
        def divided(self, clip, finite, sums):
            norms = finish(self, clip, finite, sums)
            for total in (sums.vectors, *sums.weights.values()):
                total.div_(self.records)
            return norms

        return divided

    wrap(monkeypatch, Step, "finish", make)


def draws_summed(monkeypatch):
    def make(check):
        return lambda losses, records, draws: check(losses, records, draws) * draws

    wrap(monkeypatch, engine, "check_losses", make)


def early_coefficient(monkeypatch):
    """Norms without the layer that comes last in the backward pass."""

    def make(squares):
        def incomplete(self):
            tables = [x for x in self.pairs if isinstance(x.module, nn.Embedding)]
            last = [
                (held, *held.popitem())
                for held in (self.kept, self.pairs)
                if held and list(held)[-1] not in tables
            ]
            try:
                return squares(self)
            finally:
                for held, key, value in last:
                    held[key] = value

        return incomplete

    wrap(monkeypatch, Step, "_squares", make)


def another_records_coefficient(monkeypatch):
    def make(total):
        return lambda self, factors, *rest: total(self, factors.flip(0), *rest)

    wrap(monkeypatch, Step, "_sum", make)


def rejected_rows_not_masked(monkeypatch):
    monkeypatch.setattr(Step, "_masked", lambda self, t, reject: t)


def bf16_gram(monkeypatch):
    def make(gram):
        return lambda t: gram(t.bfloat16()).to(t.dtype)

    wrap(monkeypatch, grams, "gram", make)


def clamp_at_zero(monkeypatch):
    """Without the guard, and with nothing below zero."""

    def make(gram_square):
        def clamped(xx, gg, terms):
            _, doubt, sizes = gram_square(xx, gg, terms)
            return (xx * gg).flatten(1).sum(1).double().clamp_min(0), torch.zeros_like(doubt), sizes

        return clamped

    wrap(monkeypatch, grams, "gram_square", make)


def copies_tiled(monkeypatch):
    """Copies of broadcast parameters in draw-major order."""

    def make(rows):
        def tiled(table, count, width, dtype, refuse):
            right = rows(table, count, width, dtype, refuse)
            return right.unflatten(0, (-1, table.draws)).transpose(0, 1).flatten(0, 1)

        return tiled

    wrap(monkeypatch, broadcast, "_rows", make)
    # which would refuse it before a record is clipped
    monkeypatch.setattr(isolation.Watch, "require_own", lambda *_: None)


def stale_handles(monkeypatch):
    monkeypatch.setattr(Engine, "_check", lambda *_: None)


FAULTS = [
    (last_call_only, parity, ("auto", "keep", "ghost", "lean")),
    (layer_dropped, parity, ("auto", "keep", "ghost", "lean")),
    (missing_cross_term, parity, ("ghost",)),
    (missing_cross_term, cross_terms, ()),
    (per_copy_clipping, sensitivity, ("auto", "keep", "ghost", "lean")),
    (mean_for_sum, parity, ("auto",)),
    (draws_summed, parity, ("auto",)),
    (early_coefficient, parity, ("keep", "ghost")),
    (early_coefficient, sensitivity, ("keep", "ghost")),
    (another_records_coefficient, sensitivity, ("auto",)),
    (rejected_rows_not_masked, rejection, ()),
    (bf16_gram, cancellation, ()),
    (clamp_at_zero, cancellation, ()),
    (copies_tiled, sensitivity, ("auto",)),
    (stale_handles, freshness, ()),
]


@pytest.mark.parametrize(
    "check", [parity, sensitivity, rejection, cancellation, cross_terms, freshness]
)
def test_checks_pass_without_a_fault(check):
    check()


@pytest.mark.parametrize(
    ("fault", "check", "options"),
    [
        (fault, check, options)
        for fault, check, ways in FAULTS
        for options in [(w,) for w in ways] or [()]
    ],
    ids=lambda value: getattr(
        value, "__name__", "-".join(value) if isinstance(value, tuple) else None
    ),
)
def test_fault_is_found(fault, check, options, monkeypatch):
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check(*options)
