"""Votes of private images for public bases: what `match` and `adapt --match` ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SfumatoError
from ..methods.evolution.spaces import pixels
from ..methods.evolution.voting import nearest, noisy_votes
from ..privacy.mechanisms.base_vote import LIKELIEST, NEAREST, SPACES
from ..privacy.mechanisms.histogram import GRID, VoteHistogram
from ..privacy.random.keys import RunKey
from ..records import RecordSet
from .gaussians import contrast, factors_of, likeliest

BATCH = 512  # slots at a time; fixed by slot alone, so that no unit moves another's vote
PIXELS = SPACES[NEAREST]


@dataclass(frozen=True)
class Comparison:
    """How an image finds its base; all of it is public.

    Attributes:
        features: Name of the space in which all candidates are compared, whatever their size.
        rule: Name of the rule, as plans and answers state it.
        of_pictures: Pictures uint8 [B, R, R, 3] -> features float32 [B, d], each of it alone.
        table_of: Features [pictures, d] of each base's public pictures -> what is asked with,
            [bases, ...]; SfumatoError for pictures that tell nothing.
        named: Features [B, d] of images, which of them are sound, and the table -> the number of
            each one's base, int64 [B], -1 for none.
    """

    features: str
    rule: str
    of_pictures: Callable[[np.ndarray], np.ndarray]
    table_of: Callable[[Sequence[np.ndarray]], np.ndarray]
    named: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _of_nearest(features: np.ndarray, sound: np.ndarray, table: np.ndarray) -> np.ndarray:
    named = _nearest(features, sound, table.reshape(-1, table.shape[-1]))
    return np.where(named >= 0, named // table.shape[1], -1)


def _nearest(features: np.ndarray, sound: np.ndarray, table: np.ndarray) -> np.ndarray:
    wide, order = VoteHistogram(len(table), 1, 1, PIXELS), np.arange(len(features))
    return nearest(wide, features, np.where(sound, 0, -1), order, table)[:, 0]


TODAY = Comparison(SPACES[LIKELIEST], LIKELIEST, contrast, factors_of, likeliest)
# of plans that name no rule
FORMER = Comparison(PIXELS, NEAREST, pixels, lambda tables: np.stack(tables), _of_nearest)


def comparison_of(features: str, rule: str) -> Comparison:
    """The comparison that a plan names: another one would be another question.

    SfumatoError for one that this version does not know.
    """
    for known in (TODAY, FORMER):
        if (known.features, known.rule) == (features, rule):
            return known
    raise SfumatoError(
        f"the plan compares bases in {features} by {rule}, which this version does not know: resume"
        " with the version that made it"
    )


def bases_asked(
    records: RecordSet,
    side: int,
    table: np.ndarray,
    sigma: float,
    key: RunKey,
    step: int = 0,
    by: Comparison = TODAY,
) -> np.ndarray:
    """Noisy votes of all units for the bases, float64 [bases]; one Gaussian mechanism.

    Args:
        records: The private images.
        side: Pixels a side at which they are read.
        table: What stands for the bases, as `by.table_of` made it of their public pictures.
        sigma: Noise sd in votes.
        key: Whose noise it is.
        step: Of the noise's address.
        by: The comparison.
    """
    named = bases_named(records, side, table, by)
    voting = VoteHistogram(len(table), 1, 1, by.features)
    return noisy_votes(voting, sigma, named[:, None], owned(records), key, step, 0) / GRID


def bases_named(
    records: RecordSet, side: int, table: np.ndarray, by: Comparison = TODAY
) -> np.ndarray:
    """The base that each slot votes for, int64 [n], -1 if it cannot be read; PRIVATE."""
    return _of_slots(
        records, side, lambda seen, sound: by.named(by.of_pictures(seen), sound, table)
    )


def nearest_pictures(records: RecordSet, side: int, table: np.ndarray) -> np.ndarray:
    """The nearest public picture of each slot in pixels, int64 [n], -1 for none; PRIVATE."""
    return _of_slots(records, side, lambda seen, sound: _nearest(pixels(seen), sound, table))


def _of_slots(
    records: RecordSet, side: int, named: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """What each slot names.

    All slots pass in the order of the source, `BATCH` at a time, unreadable ones as black images:
    leaving a unit out changes no shape of any computation, and so no other unit's answer.
    """
    found = np.full(records.n, -1, np.int64)
    for start in range(0, records.n, BATCH):
        slots = records.reading_order[start : start + BATCH]
        pictures, good = records.load(slots, side)
        found[slots] = named(pictures, good & records.usable[slots])
    return found


def owned(records: RecordSet) -> list[np.ndarray]:
    """The slots of each unit."""
    order = np.argsort(records.unit, kind="stable")
    first = np.searchsorted(records.unit[order], np.arange(records.n_units + 1))
    return [order[a:b] for a, b in zip(first, first[1:])]
