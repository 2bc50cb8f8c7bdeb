"""The reference: one record at a time through plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_counts, check_groups, check_losses
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
                losses = check_losses(row_losses(batch[i : i + 1]), 1, draws)
                if not losses.requires_grad:
                    raise RuntimeError("the losses do not depend on any trainable tensor")
                grads = gradients(losses.sum() / draws, params)
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


def gradients(loss: Tensor, params: list[nn.Parameter]) -> Sequence[Tensor | None]:
    """Returns the gradients; None for what is not reached.

    Those of tensors that ranks share by torch's own way, FSDP's, which averages over the ranks: all
    of them must have the same record, as in the self-check.
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


def fill(p: nn.Parameter, value: Tensor) -> None:
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
