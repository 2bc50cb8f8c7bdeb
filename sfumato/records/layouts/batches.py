"""Files that hold rows with pictures in batches: parquet and Arrow, read by the bounded process."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from ..coded import unpacked
from ..columns import Listing, wanted
from ..unpacked import fetched, listed


def of_batches(
    kind: str, files: list[Path], said: tuple[str, ...], table: str, options: dict[str, Any]
) -> Listing:
    """The records of files of a kind ("parquet" or "arrow").

    Args:
        kind: A reader of `worker.LISTERS` and `worker.FETCHERS`.
        files: In order.
        said: What was seen, for the owner.
        table: What messages call the files.
        options: As `load_records` collects them.
    """
    found = listed(kind, files, wanted(options))
    values = {name: unpacked(cells) for name, cells in found["columns"].items()}
    read = Batches(kind, files, found["image"], found["batches"], found.get("paths"))
    return Listing(
        kind,
        read,
        read.n,
        said=said,
        columns=tuple(found["flat"]),
        column=lambda name: values[name],
        names=found["names"],
        several=tuple(found["several"]),
        lists=tuple(name for name in found["several"] if name in values),
        by_bytes=True,
        table=table,
    )


class Batches:
    """Reads slot -> encoded bytes; `names` are of files, where there are any, for one who looks."""

    def __init__(
        self,
        kind: str,
        files: list[Path],
        column: str,
        batches: list[Any],
        names: list[str] | None = None,
    ):
        self.kind, self.files, self.column, self.batches = kind, files, column, batches
        self.names = names or []
        self.starts = np.cumsum([0, *(rows for *_, rows in batches)]).tolist()
        self.n = self.starts.pop()

    def __call__(self, slot: int) -> bytes:
        """The encoded picture of a slot."""
        at = bisect_right(self.starts, slot) - 1
        number, where, _ = self.batches[at]
        row = slot - self.starts[at]
        return fetched(self.kind, self.files[number], *where, self.column, row)
