"""What of a charged run is an output: noised figures that stand where its owner can read them.

A later plan may follow from them, whether or not anything has left, so that the later charge is
composed as one that was chosen on the way.
"""

from __future__ import annotations

from collections.abc import Iterable

from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.entries import Entry, Probed, Released, Selected
from sfumato.privacy.ledger.notes import (
    Aggregated,
    CheckpointMade,
    Interval,
    Made,
    Matched,
    ModelMade,
    MomentsMade,
    Shown,
)
from sfumato.privacy.ledger.rows import Row

# Each row comes before what it names is on the disk; scores and votes stand in the row itself.
# `Interval` is there for rounds of votes, which shards hand each other in files before the round's
# checkpoint has its row; a checkpoint is one of steps, of a warm-up or of rounds.
OUTPUTS: tuple[type[Entry], ...] = (
    Probed,
    MomentsMade,
    Matched,
    Interval,
    Aggregated,
    CheckpointMade,
    Made,
    Shown,
    ModelMade,
    Selected,
    Released,
)
# What versions counted whose CERTIFY rows do not say `outputs`: their totals are compared by it.
FORMER: tuple[type[Entry], ...] = (Released, Selected, Shown, Matched)


def output_rows(chain: Chain, sorts: Iterable[type[Entry]] = OUTPUTS) -> list[Row]:
    """The rows of these sorts, of all runs, each once."""
    found = {
        row.seq: row
        for sort in sorts
        for row in chain.of(sort.KIND)
        if sort.is_in(row.kind, row.body)
    }
    return [found[seq] for seq in sorted(found)]
