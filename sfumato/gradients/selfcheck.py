"""The start-up check of the engine on synthetic records: against the reference, and row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_losses
from .engine import Engine
from .grams import GRAM_TRUST
from .randomness import no_draws, refuse_random
from .reach import perturbed
from .reference import ReferenceEngine

RowLosses = Callable[[Any], Tensor]

# Coprime: what agrees with one of them by chance does not agree with the other.
COUNTS = (2, 3)
# Of the largest loss: what the same record's loss may differ by beside other records.
ALONE = 1e-4
# Factors of the records, after their gradients were scaled to norm 1.
SHARES = (1.0, 0.5, 0.75)


def self_check(
    model: nn.Module,
    trainable: dict[str, nn.Parameter],
    row_losses: RowLosses,
    synthetic_batch: Any,
    draws: int,
    *,
    groups: Sequence[Sequence[str]] | None = None,
    tolerance: float = 1e-3,
    most: int | None = None,
) -> list[str]:
    """Compares the engine with the reference on SYNTHETIC records: norms and clipped sums.

    On two records and on three, since a layout of rows may agree with one number by chance. And
    the losses of a record must be the same alone, beside others, and when its neighbours change;
    the same again when they are computed again; and others than another record's. Tensors that are
    all zero (LoRA's B, zero-initialised outputs) are perturbed for the check and restored to the
    bit. A norm may be larger than autograd's where the engine takes an upper bound of it
    (`grams.gram_square`).

    Args:
        model: The module that the row losses call.
        trainable: Name -> parameter of it.
        row_losses: As in `Engine.clipped_sum`; must give the same losses for a record whatever the
            batch around it, without autocast.
        synthetic_batch: At least three records, all different, of which three are used.
        draws: Rows of each record.
        groups: As in training (see `Engine`), so that what is checked is what will run.
        tolerance: The largest relative difference.
        most: The most records that a pass of training has: no pass of the check has more.

    Returns:
        Names of trainable tensors whose gradient is zero in every record: they would never move.

    Raises:
        RuntimeError: Norms or any tensor's sum differ by more than `tolerance`, for instance
            because a weight is read past its module beside a normal call; or records or random
            numbers take part in a record's loss.
        ValueError: Fewer than three records, a random layer that is switched on, or rows that are
            not laid out by record.
    """
    if len(synthetic_batch) < max(COUNTS):
        raise ValueError("the self-check needs three synthetic records")
    for path, module in model.named_modules():
        refuse_random(path or type(module).__name__, module)
    batch = synthetic_batch[0 : max(COUNTS)]
    with perturbed(trainable), no_draws(p.device for p in trainable.values()):
        _check_losses(row_losses, batch, draws, most)
        right, expected = dict[str, Tensor](), list[Tensor]()
        for record in range(len(batch)):
            with ReferenceEngine(model, trainable, groups=groups) as reference:
                own, norms = _alone(reference, row_losses, batch, draws, record)
            expected.append(norms)
            for name, value in own.items():
                right[name] = right[name].add_(value) if name in right else value
            if record + 1 not in COUNTS:
                continue
            with Engine(model, trainable, groups=groups) as engine:
                found = _together(engine, row_losses, batch, draws, expected, most)
            _compare(found, (right, torch.cat(expected)), tolerance)
    return [name for name, value in right.items() if not bool(value.any())]


def _check_losses(row_losses: RowLosses, batch: Any, draws: int, most: int | None) -> None:
    """A record's losses may depend on that record alone, and must depend on it.

    The windows hold every record beside others, at other places and among more or fewer.

    Raises:
        RuntimeError: They do not.
    """
    met: dict[int, Tensor] = {}
    windows = [(0, 3), (0, 3), (1, 3), (0, 2)] if most is None or most >= 3 else []
    windows = windows or ([(0, 1), (0, 1), (1, 2), (2, 3)] if most == 1 else [(0, 2), (1, 3)] * 2)
    for start, end in windows:
        with torch.no_grad():
            losses = check_losses(row_losses(batch[start:end]), end - start, draws)
        for record, own in zip(range(start, end), losses.view(-1, draws), strict=True):
            if not _alike(own, met.setdefault(record, own)):
                raise RuntimeError(
                    "self-check: a record's loss changes with the records beside it, or when it is"
                    " computed again: nothing may couple two rows, and nothing may be random"
                )
    if any(_alike(met[record], met[record + 1], exact=True) for record in range(len(met) - 1)):
        raise RuntimeError(
            "self-check: two records have the same loss: it does not depend on the record"
        )


def _alike(one: Tensor, other: Tensor, *, exact: bool = False) -> bool:
    room = 0.0 if exact else ALONE * float(torch.maximum(one.abs(), other.abs()).max())
    return bool(((one - other).abs() <= room).all())


Found = tuple[dict[str, Tensor], Tensor]


def _alone(
    reference: ReferenceEngine, row_losses: RowLosses, batch: Any, draws: int, record: int
) -> Found:
    """One record by autograd.

    Returns:
        Its gradient, scaled to its share, and its norms [1] or [1, groups].

    Raises:
        RuntimeError: The gradient is zero or not finite.
    """
    sums, norms = reference.clipped_sum(
        row_losses,
        batch[record : record + 1],
        draws=draws,
        clip=lambda norms: _factors(norms, record),
    )
    if not bool((norms.sum() > 0) & torch.isfinite(norms).all()):
        raise RuntimeError("self-check: a synthetic record has a zero or non-finite gradient")
    return sums, norms


def _factors(norms: Tensor, record: int) -> Tensor:
    """Factors [1] or [1, groups] that give a record's gradient, or each group's, its share."""
    return torch.where(norms > 0, SHARES[record] / norms, 0.0)


def _together(
    engine: Engine,
    row_losses: RowLosses,
    batch: Any,
    draws: int,
    expected: Sequence[Tensor],
    most: int | None,
) -> Found:
    """The same records by the engine.

    By the same factors, so that sums can be compared closely where a norm is an upper bound.

    Returns:
        Its sum and norms.
    """
    factors = torch.cat([_factors(norms, i) for i, norms in enumerate(expected)])
    rest = factors

    def clip(norms: Tensor) -> Tensor:
        nonlocal rest
        own, rest = rest[: len(norms)], rest[len(norms) :]
        return own

    some = batch[0 : len(expected)]
    return engine.clipped_sum(row_losses, some, draws=draws, clip=clip, micro_batch=most)


def _compare(found: Found, right: Found, tolerance: float) -> None:
    """Compares norms record by record, and sums tensor by tensor.

    Raises:
        RuntimeError: They differ.
    """
    (got, norms), (sums, expected) = found, right
    unit = expected if expected.dim() == 1 else expected.norm(dim=1, keepdim=True)
    # A group's gradient may be zero where the unit's is not, and rounding is then all there is of
    # it.
    room = tolerance * expected.clamp_min(1e-4 * unit)
    if not bool(
        ((norms >= expected - room) & (norms <= expected * (1 + GRAM_TRUST / 2) + room)).all()
    ):
        raise RuntimeError(
            "self-check: the engine's per-record norms differ from one-at-a-time autograd"
        )
    whole = float(torch.stack([torch.linalg.vector_norm(t) for t in sums.values()]).norm())
    for name, value in sums.items():
        size = float(torch.linalg.vector_norm(value))
        if float(torch.linalg.vector_norm(got[name] - value)) > tolerance * max(size, 1e-4 * whole):
            raise RuntimeError(
                f"self-check: the clipped sum of {name} differs from one-at-a-time autograd"
            )
