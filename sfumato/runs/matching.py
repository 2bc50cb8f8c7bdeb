"""Votes of private images for public pictures of bases: what `match` and `adapt --match` ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..methods.evolution.spaces import SIDE, pixels
from ..methods.evolution.voting import nearest, noisy_votes
from ..privacy.mechanisms.histogram import GRID, VoteHistogram
from ..privacy.random.keys import RunKey
from ..records import RecordSet

BATCH = 512  # slots at a time; fixed by slot alone, so that no unit moves another's vote
FEATURES = f"pixels, {SIDE} x {SIDE}"  # in which all candidates are compared, whatever their size


def bases_asked(
    records: RecordSet,
    side: int,
    tables: Sequence[np.ndarray],
    sigma: float,
    key: RunKey,
    step: int = 0,
) -> np.ndarray:
    """Noisy votes of all units for the bases, float64 [bases]; one Gaussian mechanism.

    Args:
        records: The private images.
        side: Pixels a side at which they are read.
        tables: Of each base the features [pictures, d] of its public pictures.
        sigma: Noise sd in votes.
        key: Whose noise it is.
        step: Of the noise's address.
    """
    each = len(tables[0])
    named = nearest_pictures(records, side, np.concatenate(tables))
    named = np.where(named >= 0, named // each, -1)
    voting = VoteHistogram(len(tables), 1, 1, FEATURES)
    return noisy_votes(voting, sigma, named[:, None], owned(records), key, step, 0) / GRID


def nearest_pictures(records: RecordSet, side: int, table: np.ndarray) -> np.ndarray:
    """Returns the nearest public picture of each slot, int64 [n], -1 if it cannot be read; PRIVATE.

    All slots pass in the order of the source, `BATCH` at a time, unreadable ones as black images:
    leaving a unit out changes no shape of any computation, and so no other unit's answer.
    """
    wide = VoteHistogram(len(table), 1, 1, FEATURES)
    found = np.full(records.n, -1, np.int64)
    for start in range(0, records.n, BATCH):
        slots = records.reading_order[start : start + BATCH]
        pictures, good = records.load(slots, side)
        mark = np.where(good & records.usable[slots], 0, -1)
        order = np.arange(len(slots))
        found[slots] = nearest(wide, pixels(pictures), mark, order, table)[:, 0]
    return found


def owned(records: RecordSet) -> list[np.ndarray]:
    """The slots of each unit."""
    order = np.argsort(records.unit, kind="stable")
    first = np.searchsorted(records.unit[order], np.arange(records.n_units + 1))
    return [order[a:b] for a, b in zip(first, first[1:])]
