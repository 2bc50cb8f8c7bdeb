"""How many records fit into a memory budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .engine import Engine

# For what is not quite linear: rounding to whole blocks, a few numbers per record.
MARGIN = 0.02


def fitting_records(
    engine: Engine,
    row_losses: Callable[[Any], Tensor],
    synthetic_batch: Callable[[int], Any],
    draws: int,
    budget: int,
    most: int,
    peak_bytes: Callable[[Callable[[], object], torch.device], int],
) -> tuple[int, int]:
    """Returns how many records (0 to `most`) fit into memory in one microbatch, and one's bytes.

    Their forward and backward pass, and the sums; weights and the optimiser come on top. Measured
    on SYNTHETIC records of the shapes of the real ones, so the answer depends on the model and on
    public settings only. The peak is the largest of several phases, each linear in the records, so
    the bytes per record at a smaller size bound those at a larger one: it never promises too much.

    Args:
        engine: The engine to measure.
        row_losses: As in `Engine.clipped_sum`.
        synthetic_batch: Number of records -> a synthetic batch of that size.
        draws: Rows of each record.
        budget: Bytes.
        most: The largest answer.
        peak_bytes: `peak_bytes(work, device)`: the most bytes that `work` holds at once on the
            device.

    Returns:
        (records, bytes that one takes); 0 where not even one fits.
    """
    records, one = 1, 0
    while True:
        batch = synthetic_batch(records)
        peak = peak_bytes(
            lambda batch=batch: engine.clipped_sum(
                row_losses, batch, draws=draws, clip=torch.ones_like
            ),
            engine.device,
        )
        one = one or peak
        fitting = int(records * budget * (1 - MARGIN) / max(1, peak))
        # the first pass of several records also looks whether rows are records (isolation.py)
        alone = records == 1 < min(most, fitting)
        if not alone and (4 * records > most or 16 * peak > budget):
            return min(most, fitting), one
        records = 2 if alone else 4 * records
