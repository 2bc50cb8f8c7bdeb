"""How much memory a clipped sum takes, and how many records fit into a budget."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from .engine import Engine

# For what is not quite linear: rounding to whole blocks, a few numbers per record.
MARGIN = 0.02


def peak_bytes(work: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Most bytes that torch's allocator held at once while `work` ran, above what it held
    before.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    with _silence():
        profile.start()
    try:
        work()
    finally:
        with _silence():
            profile.stop()
    # The public table has totals only; the peak needs the single allocations, in their order in
    # time.
    single: Any = profile.profiler
    events = [e for e in single.kineto_results.events() if e.name() == "[memory]"]
    held: int = 0
    peak: int = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _silence() -> Generator[None, None, None]:
    """Nothing on the process's standard error: the profiler's native code announces itself
    there.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def fitting_records(
    engine: Engine,
    row_losses: Callable[[Any], Tensor],
    synthetic_batch: Callable[[int], Any],
    draws: int,
    budget: int,
    most: int,
) -> int:
    """Records (1 to `most`) whose forward and backward pass, and the sums, fit into `budget` bytes.

    Weights and the optimiser come on top. Measured on SYNTHETIC records of the shapes of the real
    ones, so the answer depends on the model and on public settings only. The peak is the largest of
    several phases, each linear in the records, so the bytes per record at a smaller size bound
    those at a larger one: it never promises too much.
    """
    records = 1
    while True:
        batch = synthetic_batch(records)
        peak = peak_bytes(
            lambda batch=batch: engine.clipped_sum(
                row_losses, batch, draws=draws, clip=torch.ones_like
            ),
            engine.device,
        )
        fitting = int(records * budget * (1 - MARGIN) / max(1, peak))
        if 4 * records > most or 16 * peak > budget:
            return max(1, min(most, fitting))
        records *= 4
