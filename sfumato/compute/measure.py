"""Two ways of the same work, timed against each other on this machine.

What is timed is dummy data of public shapes, before anything is charged. `SFUMATO_MEASURE=0` turns
every such measurement off: then float32, the engine's own constants, and torch's threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from .clocks import work_clock
from .device import device, is_host
from .threads import one_thread

OPT_OUT = "SFUMATO_MEASURE"
# bfloat16 must save so large a share of float32's time to be taken: below it float32 is the more
# exact for the same price, and a machine with other work errs by as much.
MARGIN = 0.1
# Rows grow fourfold until one pass takes so many seconds, so that Python's own share is as in a
# run's passes.
WORTH, MOST_ROWS = 0.15, 64
ROUNDS, ENOUGH = 3, 3.0  # turns of each way, and seconds after which there are no more


@dataclass(frozen=True)
class Trial:
    """Seconds of one pass over `rows` dummy rows, of the quickest turn of each format.

    Attributes:
        float32: In single precision.
        bfloat16: With products in bfloat16.
        rows: How many rows.
    """

    float32: float
    bfloat16: float
    rows: int

    @property
    def quicker(self) -> str:
        """The format to take: float32, unless bfloat16 saves `MARGIN` of its time."""
        return "bfloat16" if self.bfloat16 < (1 - MARGIN) * self.float32 else "float32"

    def ratio(self, name: str) -> float:
        """Time of a format over the other's."""
        own, other = self.float32, self.bfloat16
        return own / other if name == "float32" else other / own


def measures() -> bool:
    """Whether this process may time its machine."""
    return os.environ.get(OPT_OUT) != "0"


def compare(
    make: Callable[[str, int], Callable[[], object]],
    clock: Callable[[], float] | None = None,
) -> Trial:
    """Times one pass in both formats, in turns.

    Args:
        make: `make(format, rows)` returns the pass; what it prepares is not timed.
        clock: Seconds so far; None for those of work on the package's device (`work_clock`).

    Returns:
        The quickest turns.
    """
    clock = work_clock() if clock is None else clock

    def timed(work: Callable[[], object]) -> float:
        started = clock()
        work()
        return clock() - started

    began, rows = clock(), 4
    if not is_host(device()):
        make("float32", rows)()  # its libraries start: no pass of a run, so no reason to stop here
    first = timed(work := make("float32", rows))
    # Processor time of several threads counts their waiting for each other, which is longer beside
    # other work and the same in both formats. Where a pass is long its products are, too.
    short = is_host(device()) and first < ENOUGH
    with one_thread() if short else nullcontext():
        while first < ENOUGH:
            # a first pass also fills caches, and counts only where it is all that there is
            first = min(first, timed(work))
            if first >= WORTH or rows == MOST_ROWS:
                break
            rows *= 4
            first = timed(work := make("float32", rows))
        works = {name: make(name, rows) for name in ("float32", "bfloat16")}
        best = {"float32": first, "bfloat16": timed(works["bfloat16"])}
        for _ in range(ROUNDS):
            if clock() - began > ENOUGH:
                break
            for name, work in works.items():
                best[name] = min(best[name], timed(work))
    return Trial(best["float32"], best["bfloat16"], rows)
