"""The next microbatch, drawn and pinned by the host while a device computes the last one.

Nothing is drawn in another way: every number of a unit has an address (step, attempt, unit), so it
is the same in whatever thread, and whenever, it is drawn. On the host itself nothing is done ahead:
its cores are busy with the step.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch

from ..compute.device import is_host
from .data import MixedBatch, UnitBatch
from .objective import Batch


def fetched(
    batch: UnitBatch | MixedBatch, where: torch.device, micro_batch: int | None
) -> UnitBatch | MixedBatch | Fetched:
    """The batch as the engine takes it: read ahead for a device, as it is for the host.

    Args:
        batch: The units of a step.
        where: The device of the base.
        micro_batch: As the engine gets it.
    """
    return batch if is_host(where) else Fetched(batch, micro_batch, _thread())


@cache
def _thread() -> ThreadPoolExecutor:
    """The one thread of this process that reads ahead."""
    return ThreadPoolExecutor(1, "prefetch")


class Fetched:
    """A batch that draws the microbatch after the one that was just taken.

    Args:
        batch: The units of a step.
        micro_batch: The most units of a part; the engine cuts by position alone.
        thread: Draws.
    """

    def __init__(
        self, batch: UnitBatch | MixedBatch, micro_batch: int | None, thread: ThreadPoolExecutor
    ):
        self._batch, self._thread = batch, thread
        size = len(batch)
        passes = -(-size // (micro_batch or max(size, 1)))
        cuts = [i * size // passes for i in range(passes)] + [size]
        self._ends = dict(zip(cuts, cuts[1:]))
        self._coming: dict[tuple[int, int], Future[Batch | tuple[Batch, ...]]] = {}
        self._fetch(0)

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, part: slice) -> Batch | tuple[Batch, ...]:
        asked = (part.start or 0, len(self) if part.stop is None else part.stop)
        coming = self._coming.pop(asked, None)
        self._fetch(asked[1])
        return self._draw(asked) if coming is None else coming.result()

    def _fetch(self, start: int) -> None:
        if start in self._ends:
            part = (start, self._ends[start])
            self._coming[part] = self._thread.submit(self._draw, part)

    def _draw(self, part: tuple[int, int]) -> Batch | tuple[Batch, ...]:
        drawn = self._batch[slice(*part)]
        if isinstance(drawn, tuple):
            return tuple(batch.pinned() for batch in drawn)
        return drawn.pinned()
