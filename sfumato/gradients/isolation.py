"""Whether the rows that layers see belong to the records that the engine takes them for.

Dim 0 of what a layer sees is taken as [B * q], q rows for each record, record-major. A number of
rows cannot tell: a table of T positions, tokens before records, or a batch cut into pieces may have
as many. So before the first pass of several records a few are tried: the loss of one record alone
is taken back to every layer, and in the rows of the others its gradient must be zero. A zero stays
one, exactly, in whatever rounding, as long as nothing couples two rows. If every record reaches its
own rows alone in a pass of two or three, then so it does in larger passes with the same calls of
the same layers and the same q: a layout that is none of records has another q there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .owners import Layer

Losses = Callable[[Any], Tensor]
Calls = tuple[tuple[str, int], ...]


# What was tried, for every function of losses: engines come and go, and dummy data tell enough.
_PROVEN: weakref.WeakKeyDictionary[Any, dict[Any, set[Calls]]] = weakref.WeakKeyDictionary()


def proven(row_losses: Losses, model: nn.Module, names: Iterable[str], draws: int) -> set[Calls]:
    """The calls that are known to be laid out by record; the set may be added to.

    Args:
        row_losses: The losses.
        model: What they call.
        names: What trains.
        draws: Rows of each record.

    Returns:
        The calls of every layout that was seen to be right.
    """
    try:
        held = _PROVEN.setdefault(row_losses, {})
    except TypeError:  # a callable that cannot be held weakly is tried every time
        return set()
    return held.setdefault((weakref.ref(model), tuple(names), draws), set())


class Watch:
    """In a step's place while rows are tried: nothing is summed.

    Attributes:
        records: B.
        draws: Rows of each record.
        chosen: The one record whose loss is taken back.
        calls: (path of a layer, rows of a record) for each call in the forward pass.
        collecting: Whether the backward pass has begun.
    """

    def __init__(self, records: int, draws: int) -> None:
        self.records, self.draws = records, draws
        self.chosen = 0
        self.calls: list[tuple[str, int]] = []
        self.collecting = False

    def expect(self, layer: Layer, x: Tensor, out: Tensor) -> None:
        """Nothing: the cost of a layer is of no interest here."""

    def arrive(self, layer: Layer, x: Tensor | None, g: Tensor) -> None:
        """Looks at one call of one layer in the backward pass.

        Raises:
            ValueError: The record has a gradient in rows that are not its own.
        """
        self.require_own(layer.path, g)

    def require_own(self, label: str, g: Tensor) -> None:
        """Checks that g [B * q, ...] is zero in the rows of other records.

        What is not finite comes from a record's values, not from a layout (0 * inf).

        Raises:
            ValueError: It is not.
        """
        rows = g.detach().reshape(self.records, g.numel() // self.records)
        own = torch.arange(self.records, device=g.device) == self.chosen
        strays = (rows != 0) & torch.isfinite(rows) & ~own[:, None]
        if bool(strays.any()):
            raise ValueError(
                f"{label}: the loss of one record reaches rows of another: dim 0 is not laid out by"
                " record (tokens first, a table of positions, or a batch in pieces), or records mix"
            )


def apart(watch: Watch, losses: Tensor, anchor: Tensor, leaves: Mapping[str, Tensor]) -> None:
    """Takes the loss of each record back alone.

    Args:
        watch: Sees what arrives at the layers.
        losses: [B * K], of a forward pass under it.
        anchor: What the layers' outputs depend on (`engine.Tap`).
        leaves: Name -> copies [B, ...] of a broadcast parameter.

    Raises:
        ValueError: As `Watch.arrive`.
    """
    watch.collecting = True
    each = losses.view(watch.records, watch.draws).sum(1)
    for record, loss in enumerate(each):
        watch.chosen = record
        grads = torch.autograd.grad(
            loss,
            [anchor, *leaves.values()],
            retain_graph=record + 1 < watch.records,
            allow_unused=True,
        )
        for name, grad in zip(leaves, grads[1:], strict=True):
            if grad is not None:
                watch.require_own(name, grad)
