"""Which images a ledger knows, by keyed hash; data sets that share one; and what was spent on them together."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

from sfumato.privacy.chain import Chain, Row
from sfumato.privacy.faults import LedgerError

TERMS = ("unit", "relation", "delta")


@dataclass(frozen=True)
class Manifest:
    """The images of one data set as keyed hashes: sorted (hmac, copies). `id` names the set; nothing of it leaves the ledger."""

    records: tuple[tuple[bytes, int], ...]

    @cached_property  # it reads every record
    def id(self) -> str:
        digest = hashlib.sha256()
        for key, copies in self.records:
            digest.update(key + copies.to_bytes(8, "big"))
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Group:
    """Data sets that share images, and what was spent on them. `charges`: bodies of their CHARGE rows, oldest first.

    `released`: whether something of these runs has left; `adaptive`: whether a later one was charged after that. `cap`: None
    where none was set.
    """

    datasets: frozenset[str]
    charges: tuple[dict, ...]
    cap: float | None
    released: bool
    adaptive: bool

    @property
    def terms(self) -> dict | None:
        """Unit, relation and delta, fixed by the first charge; None before it."""
        return {name: self.charges[0][name] for name in TERMS} if self.charges else None


class DataSets:
    """The data sets of a chain: its OPEN, JOIN, CAP and CHARGE rows, and the table of hashed images beside them."""

    def __init__(self, chain: Chain):
        self.chain = chain

    def overlapping(self, manifest: Manifest) -> frozenset[str]:
        """Data sets that hold one of these images, or, where the manifest is known, itself: JOIN rows name the others."""
        if any(row.body["dataset"] == manifest.id for row in self.chain.of("OPEN")):
            return frozenset({manifest.id})
        found: set[str] = set()
        keys = [key for key, _ in manifest.records]
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT DISTINCT dataset FROM record WHERE hmac IN ({marks})"
            found.update(dataset for (dataset,) in self.chain.read(query, part))
        return frozenset(found)

    def open(self, manifest: Manifest, overlapping: frozenset[str]) -> None:
        """Enter a data set that is not known yet; inside a transaction."""
        if manifest.id in overlapping:
            return
        self.chain.append("OPEN", "", {"dataset": manifest.id})
        rows = [(key, copies, manifest.id) for key, copies in manifest.records]
        self.chain.db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        if overlapping:
            self.chain.append("JOIN", "", {"dataset": manifest.id, "with": sorted(overlapping)})

    def group(self, datasets: frozenset[str], before: int | None = None) -> Group:
        """These data sets and all that share an image with them, directly or through others; as it was `before` that row."""

        def rows(kind: str) -> list[Row]:
            return [row for row in self.chain.of(kind) if before is None or row.seq < before]

        group = set(datasets)
        joined = [{row.body["dataset"], *row.body["with"]} for row in rows("JOIN")]
        while more := {d for sets in joined if sets & group for d in sets} - group:
            group |= more
        charged = [row for row in rows("CHARGE") if row.body["dataset"] in group]
        runs = {row.run_id for row in charged}
        left = [row.seq for row in rows("RELEASE") if row.run_id in runs]
        caps: dict[str, float] = {}
        for row in rows("CAP"):
            # Rows of format 1 have no such word: there the last one counted.
            raising = row.body.get("raise", True)
            for dataset in row.body["datasets"]:
                caps[dataset] = row.body["epsilon"] if raising else min(caps.get(dataset, math.inf), row.body["epsilon"])
        return Group(
            frozenset(group),
            tuple({**row.body, "run": row.run_id} for row in charged),
            min((cap for dataset, cap in caps.items() if dataset in group), default=None),
            bool(left),
            bool(left) and charged[-1].seq > left[0],
        )

    def verify(self) -> None:
        """LedgerError unless the table of hashed images is the one that the chain's OPEN rows name."""
        held: dict[str, list[tuple[bytes, int]]] = {}
        with self.chain.snapshot():
            table = self.chain.read("SELECT hmac, copies, dataset FROM record ORDER BY hmac", [])
        for key, copies, dataset in table:
            held.setdefault(dataset, []).append((key, copies))
        named = {row.body["dataset"] for row in self.chain.of("OPEN")}
        try:
            whole = set(held) == named and all(Manifest(tuple(v)).id == k for k, v in held.items())
        except (TypeError, AttributeError, OverflowError):
            whole = False
        if not whole:
            raise LedgerError("the ledger's table of images is damaged: put the newest whole copy back")
