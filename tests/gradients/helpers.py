"""What the gradient tests share: cases (model, trainable, losses, records) and the comparisons with
the reference.

The comparisons are plain functions that raise AssertionError: `test_faults.py` shows that planted
faults make them fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.gradients import Engine, ReferenceEngine, cost, grams
from sfumato.gradients.step import narrow

torch.set_num_threads(1)

STRATEGIES = ("auto", *cost.STRATEGIES)


@dataclass
class Case:
    """`rows(i)` -> losses of the records `i` (a slice of `records`), [len(i) * draws]."""

    model: nn.Module
    trainable: dict[str, nn.Parameter]
    rows: Callable[[Tensor], Tensor]
    records: Tensor
    draws: int = 1

    def only(self, choose: Callable[[str], bool]) -> Case:
        chosen = {name: p for name, p in self.trainable.items() if choose(name)}
        return Case(self.model, chosen, self.rows, self.records, self.draws)


def flat(bound: float) -> Callable[[Tensor], Tensor]:
    """Flat clipping to `bound`: norms -> factors."""
    return lambda norms: bound / norms.clamp_min(bound)


def autocast(rows: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same losses under bf16 autocast."""

    def cast(i):
        with torch.autocast("cpu", torch.bfloat16):
            return rows(i)

    return cast


def reference(case: Case, bound: float | None = None):
    """(sums, norms, bound) one record at a time; `bound` is the median norm unless given, so that
    clipping acts.
    """
    options = {"draws": case.draws}
    with ReferenceEngine(case.model, case.trainable) as engine:
        if bound is None:
            _, norms = engine.clipped_sum(case.rows, case.records, clip=torch.ones_like, **options)
            bound = float(norms.median())
        return (*engine.clipped_sum(case.rows, case.records, clip=flat(bound), **options), bound)


def engine(case: Case, bound: float, strategy: str = "auto", micro_batch: int | None = None):
    """(sums, norms) of the engine."""
    with Engine(case.model, case.trainable, strategy=strategy) as one_pass:
        return one_pass.clipped_sum(
            case.rows, case.records, draws=case.draws, clip=flat(bound), micro_batch=micro_batch
        )


def whole(sums: dict[str, Tensor]) -> Tensor:
    """All sums as one vector, fp64."""
    return torch.cat([t.flatten().double() for t in sums.values()])


def assert_same(got, right, bar: float, floor: float = 1e-3) -> None:
    """Every norm, and every tensor's sum, within the relative `bar`; tiny tensors within bar *
    floor of the whole.
    """
    (sums, norms), (sums_r, norms_r) = got, right
    assert sums.keys() == sums_r.keys()
    assert torch.allclose(norms, norms_r, rtol=bar, atol=0)
    least = floor * float(whole(sums_r).norm())
    for name, value in sums.items():
        assert (value - sums_r[name]).norm() <= bar * max(float(sums_r[name].norm()), least), name


def assert_parity(case: Case, bar: float, runs=tuple((s, None) for s in STRATEGIES)) -> None:
    """The engine equals the reference for every (strategy, micro_batch) of `runs`."""
    *right, bound = reference(case)
    for strategy, micro_batch in runs:
        assert_same(engine(case, bound, strategy, micro_batch), right, bar)


def assert_exact_norms(case: Case, exact: Tensor, most: Tensor, strategies=STRATEGIES) -> None:
    """The norms equal `exact` [B], or are larger where the gradient is never made: by rounding's
    bound, or by the share of `most` (sum of token norms) that may stand for it.
    """
    for strategy in strategies:
        with Engine(case.model, case.trainable, strategy=strategy) as one_pass:
            _, norms = one_pass.clipped_sum(
                case.rows, case.records, draws=case.draws, clip=flat(1.0)
            )
            made = set(one_pass.strategies.values()) <= {"keep", "lean"}
        above = exact if made else torch.maximum(exact, grams.CANCELLED * most)
        room = 1e-3 if made else 1e-3 + 0.5 * grams.GRAM_TRUST
        rest = 1e-7 * most if made else 0.0  # float32's own, in a gradient that is made
        assert (norms >= exact * (1 - 1e-3) - 1e-9 - rest).all(), strategy
        assert (norms <= above * (1 + room) + 1e-9 + rest).all(), strategy


def assert_sensitivity(
    case: Case, bound: float, strategies=STRATEGIES, micro_batches=(None,)
) -> None:
    """||S(D) - S(D without i)|| <= bound for every record i, and the difference is autograd's g_i,
    clipped by the norm that the engine found; a norm may be too large by rounding's bound where the
    gradient is never made, and never too small.
    """
    records, options, clip = case.records, {"draws": case.draws}, flat(bound)
    with ReferenceEngine(case.model, case.trainable) as slow:
        each = [
            slow.clipped_sum(case.rows, records[i : i + 1], clip=torch.ones_like, **options)
            for i in range(len(records))
        ]
    alone, right = [whole(sums) for sums, _ in each], torch.cat([norms for _, norms in each])
    for strategy in strategies:
        with Engine(case.model, case.trainable, strategy=strategy) as one_pass:
            for micro_batch in micro_batches:
                everyone, norms = one_pass.clipped_sum(
                    case.rows, records, micro_batch=micro_batch, clip=clip, **options
                )
                assert torch.isfinite(whole(everyone)).all()
                assert torch.equal(norms.isfinite(), right.isfinite())
                finite = right.isfinite()
                least = 1e-4 * right[finite] + 1e-15  # squares below the normal numbers are missed
                assert ((norms - right)[finite] >= -least).all()
                assert (
                    (norms - right)[finite] <= least + 0.5 * grams.GRAM_TRUST * right[finite]
                ).all()
                factors = narrow(clip(norms), torch.float32)
                for i, own in enumerate(alone):
                    rest = torch.cat([records[:i], records[i + 1 :]])
                    others, _ = one_pass.clipped_sum(
                        case.rows, rest, micro_batch=micro_batch, clip=clip, **options
                    )
                    moved = whole(everyone) - whole(others)
                    assert moved.norm() <= bound * (1 + 1e-5)
                    assert (moved - own * factors[i]).norm() <= 2e-5 * bound
