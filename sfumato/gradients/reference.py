"""The reference: one record at a time through plain autograd.

And the start-up check of the engine against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .engine import Engine, check_counts, check_groups, check_losses
from .rules import GRAM_TRUST
from .step import narrow
from .sums import Grid, over


class ReferenceEngine:
    """Same interface and result as `Engine`, by `torch.autograd.grad` on `batch[i:i+1]`.

    Slow, and supports any layer. Modules that mix records of a batch see one record at a time here,
    so they are not refused.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: dict[str, nn.Parameter],
        *,
        groups: Sequence[Sequence[str]] | None = None,
    ) -> None:
        if not trainable:
            raise ValueError("trainable is empty: there is nothing to take gradients of")
        check_groups(trainable, groups)
        self._groups = groups
        for name, p in trainable.items():
            if p.grad is not None:
                raise ValueError(f"{name}: .grad is set; clear it")
        self._trainable = dict(trainable)
        self._required = [(p, p.requires_grad) for p in self._trainable.values()]
        for p, _ in self._required:
            p.requires_grad_(True)

    def __enter__(self) -> ReferenceEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore `requires_grad`."""
        for p, required in self._required:
            p.requires_grad_(required)
        self._required = []

    def clipped_sum(
        self,
        row_losses: Callable[[Any], Tensor],
        batch: Any,
        *,
        draws: int = 1,
        clip: Callable[[Tensor], Tensor],
        micro_batch: int | None = None,
        rounding: Grid | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """As `Engine.clipped_sum`, with the same result; the norms are PRIVATE.

        Every gradient is rounded towards zero and its norm checked in integers, so that one record
        moves the integers by at most bound / (1 + slack): rho is not used.

        Args:
            row_losses: As in `Engine.clipped_sum`.
            batch: As in `Engine.clipped_sum`.
            draws: Rows of each record.
            clip: As in `Engine.clipped_sum`.
            micro_batch: Accepted, without effect.
            rounding: As in `Engine.clipped_sum`.

        Returns:
            As `Engine.clipped_sum`.

        Raises:
            RuntimeError: A trainable tensor was not reached in the backward pass.
        """
        check_counts(draws, micro_batch)
        params = list(self._trainable.values())
        groups = self._groups or [list(self._trainable)]
        wide = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
        kind = torch.float64 if rounding is None else torch.int64
        sums = {
            name: torch.zeros(p.shape, dtype=kind, device=p.device)
            for name, p in self._trainable.items()
        }
        norms = torch.zeros(len(batch), len(groups), dtype=torch.float64, device=params[0].device)
        for i in range(len(batch)):
            with torch.enable_grad():
                record = batch[i : i + 1]
                record = record[0] if isinstance(record, tuple) else record
                losses = check_losses(row_losses(record), 1, draws)
                if not losses.requires_grad:
                    raise RuntimeError("the losses do not depend on any trainable tensor")
                grads = _gradients(losses.sum() / draws, params)
            missed = [name for name, g in zip(sums, grads, strict=True) if g is None]
            if missed:
                raise RuntimeError(f"{missed[0]}: not reached in the backward pass")
            grads = {n: g for n, g in zip(sums, grads, strict=True) if g is not None}
            for j, names in enumerate(groups):
                norms[i, j] = (
                    sum(
                        torch.linalg.vector_norm(grads[n], dtype=torch.float64).square()
                        for n in names
                    )
                    ** 0.5
                )
            finite = bool(torch.isfinite(norms[i]).all()) and bool(torch.isfinite(losses).all())
            if not finite:
                norms[i] = torch.inf
            factors = narrow(
                clip(norms[i : i + 1] if self._groups else norms[i : i + 1, 0]), wide
            ).flatten()
            if finite:
                scaled = {
                    n: grads[n].double() * f
                    for f, names in zip(factors, groups, strict=True)
                    for n in names
                }
                for name, value in _whole(scaled, rounding).items():
                    sums[name] += value
        return sums, norms if self._groups else norms[:, 0]


def _gradients(loss: Tensor, params: list[nn.Parameter]) -> Sequence[Tensor | None]:
    """Returns the gradients; of tensors that ranks share by torch's own way, FSDP's.

    That one averages over the ranks: all of them must have the same record, as in the self-check.
    """
    if not any(hasattr(p, "full_tensor") for p in params):
        return torch.autograd.grad(loss, params, allow_unused=True)
    loss.backward()
    found: list[Tensor | None] = []
    for p in params:
        grad: Any = p.grad
        found.append(grad.full_tensor() if hasattr(grad, "full_tensor") else grad)
        p.grad = None
    return found


def _fill(p: nn.Parameter, value: Tensor) -> None:
    """Gives a parameter its numbers; all ranks those of the first, where they share it."""
    if hasattr(p, "full_tensor") and not hasattr(value, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        shared: Any = p
        value = distribute_tensor(value, shared.device_mesh, shared.placements)
    p.data.copy_(value)


def _whole(gradients: dict[str, Tensor], grid: Grid | None) -> dict[str, Tensor]:
    """Returns a record's clipped gradients (fp64, in grid units) as int64, rounded towards zero.

    Nothing if they are over the limit.
    """
    if grid is None:
        return gradients
    units = {name: (value / grid.step).trunc() for name, value in gradients.items()}
    square = torch.stack([value.square().sum() for value in units.values()]).sum()
    return (
        {}
        if bool(over(grid, square, square.new_zeros(())))
        else {name: value.long() for name, value in units.items()}
    )


def self_check(
    model: nn.Module,
    trainable: dict[str, nn.Parameter],
    row_losses: Callable[[Any], Tensor],
    synthetic_batch: Any,
    draws: int,
    *,
    groups: Sequence[Sequence[str]] | None = None,
    tolerance: float = 1e-3,
) -> list[str]:
    """Compares the engine with the reference on two SYNTHETIC records: norms and clipped sums.

    Tensors that are all zero (LoRA's B, zero-initialised outputs) are perturbed for the check and
    restored to the bit. A norm may be larger than autograd's where the engine takes an upper bound
    of it (`rules.gram_square`).

    Args:
        model: The module that the row losses call.
        trainable: Name -> parameter of it.
        row_losses: As in `Engine.clipped_sum`; must give the same losses for a record whatever the
            batch around it, without autocast.
        synthetic_batch: At least two records, of which the first two are used.
        draws: Rows of each record.
        groups: As in training (see `Engine`), so that what is checked is what will run.
        tolerance: The largest relative difference.

    Returns:
        Names of trainable tensors whose gradient is structurally zero: they would never move.

    Raises:
        RuntimeError: Norms or any tensor's sum differ by more than `tolerance`, for instance
            because a
            weight is read past its module beside a normal call.
        ValueError: Fewer than two records.
    """
    if len(synthetic_batch) < 2:
        raise ValueError("the self-check needs two synthetic records")
    batch = synthetic_batch[0:2]
    generator = torch.Generator().manual_seed(0)
    zeros = [p for p in trainable.values() if not bool(p.detach().any())]
    saved = [p.detach().clone() for p in zeros]
    try:
        for p in zeros:
            _fill(p, torch.randn(p.shape, generator=generator) * 0.05)
        with ReferenceEngine(model, trainable, groups=groups) as reference:
            plain, expected = reference.clipped_sum(
                row_losses, batch, draws=draws, clip=torch.ones_like
            )
            smaller = expected.amin(0)  # one record is clipped, one is not
            sums, _ = reference.clipped_sum(
                row_losses,
                batch,
                draws=draws,
                clip=lambda norms: torch.where(norms > smaller, smaller / norms, 1.0),
            )
        unit = (
            expected if groups is None else torch.linalg.vector_norm(expected, dim=1, keepdim=True)
        )
        if not bool((unit > 0).all()) or not bool(torch.isfinite(expected).all()):
            raise RuntimeError("self-check: a synthetic record has a zero or non-finite gradient")
        with Engine(model, trainable, groups=groups) as engine:
            # by the same factors, so that the sums can be compared closely where a norm is an upper
            # bound
            factors = torch.where(expected > smaller, smaller / expected, 1.0)
            got, norms = engine.clipped_sum(
                row_losses, batch, draws=draws, clip=lambda norms: factors
            )
    finally:
        for p, value in zip(zeros, saved, strict=True):
            _fill(p, value)
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
    dead: list[str] = []
    for name, right in sums.items():
        size = float(torch.linalg.vector_norm(right))
        if float(torch.linalg.vector_norm(got[name] - right)) > tolerance * max(size, 1e-4 * whole):
            raise RuntimeError(
                f"self-check: the clipped sum of {name} differs from one-at-a-time autograd"
            )
        if float(torch.linalg.vector_norm(plain[name])) <= 1e-7 * whole:
            dead.append(name)
    return dead
