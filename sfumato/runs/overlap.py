"""Test images that a run was trained on, or whose unit was: by the keyed hashes of its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..privacy.ledger.entries import Charged
from . import budget

if TYPE_CHECKING:
    from ..records import RecordSet
    from .folder import Run

CURE = "give held-out images (`sfumato split` before `adapt` sets units apart)"


def trained_on(runs: Sequence[Run], records: RecordSet) -> tuple[np.ndarray, np.ndarray]:
    """Slots whose image, and slots whose unit, one of the runs was trained on; bool [n] each."""
    found = np.zeros((2, records.n), bool)
    for run in runs:
        ledger = run.ledger.ledger
        try:
            for charged in run.ledger.entries(Charged):
                shared = ledger.shared(charged, records.fingerprints, **records.marks)
                found |= np.array(shared, bool).reshape(-1, 2).T
        except ValueError as error:
            raise budget.in_words(error) from error
    return found[0], found[1]


def require_apart(runs: Sequence[Run], records: RecordSet, allowed: bool, cure: str) -> int:
    """How many test images a run was trained on, or share a unit with images that it was.

    `cure`: what to do instead.

    Raises:
        DataError: Some were, and that is not `allowed`.
    """
    pictures, units = trained_on(runs, records)
    count = int((pictures | units).sum())
    if count and not allowed:
        what = [f"{int(pictures.sum()):,} are images that the run was trained on"] * bool(
            pictures.any()
        )
        what += [f"{int(units.sum()):,} belong to units that it was trained on"] * bool(units.any())
        raise DataError(
            f"of {int(records.usable.sum()):,} test images {' and '.join(what)}, so the figures"
            f" would be too good: {cure}"
        )
    return count
