"""The images and units of a ledger, by keyed hash, and what was spent on them.

Data sets that share an image or a unit are charged together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sfumato.privacy.ledger.chain import Chain, E
from sfumato.privacy.ledger.entries import (
    Capped,
    Charged,
    Joined,
    Looked,
    Opened,
)
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.outputs import FORMER, OUTPUTS, output_rows
from sfumato.privacy.ledger.partition import Trace, same_units
from sfumato.privacy.ledger.rows import Row

TERMS = ("unit", "relation", "delta")
SAME = ("relation", "delta")  # of all charges that compose
IMAGES = "record"  # the word for the unit of runs that protect single images
# Why no total is stated for a group, in the words of a certificate.
MIXED = "some of these runs protect single images and some protect units of several images"
APART = "these runs do not agree on which images are one unit"
TERMS_APART = (
    "these runs have different relations or deltas, and came together by a later set of images"
)
FOREIGN = (
    "another owner's run, which the base or the public images come from, protects other units, or"
    " units that cannot be compared"
)
UNKNOWN = (
    "an earlier version of the ledger kept no units of some of these runs, so that nobody can say"
    " whether they are the same"
)


@dataclass(frozen=True)
class Manifest:
    """The images of one data set as keyed hashes: sorted (hmac, copies).

    `id` names the set; nothing of it leaves the ledger.

    `traces`: sorted and each once, what else is known of the images (none where neither files nor
    units are); `listing` names the set together with them.
    """

    records: tuple[tuple[bytes, int], ...]
    traces: tuple[Trace, ...] = ()

    @cached_property  # it reads every record
    def id(self) -> str:
        """Name of the set: 32 hex digits of a hash over all of its images."""
        digest = hashlib.sha256()
        for key, copies in self.records:
            digest.update(key + copies.to_bytes(8, "big"))
        return digest.hexdigest()[:32]

    @cached_property
    def listing(self) -> str:
        """Digest of which image belongs to which unit; "" if the units are not known."""
        return listing_of(self.id, self.traces) if self.traces else ""


def listing_of(dataset: str, traces: Iterable[Trace]) -> str:
    """The name of a data set together with files and units of its images."""
    digest = hashlib.sha256(dataset.encode("ascii"))
    for trace in traces:
        for part in trace:
            digest.update(len(part).to_bytes(1, "big") + part)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Group:
    """Data sets that share images or units, and what was spent on them.

    `charges`: bodies of their CHARGE rows, oldest first, then what the bases of these runs had cost
    other owners, who may have had the same images (`ancestor` in each).

    `released`: whether these runs have an output (`outputs`) that the owner can read, left or not;
    `adaptive`: whether a later one was charged after that. `cap`: None if none was set.
    `unclear`: why no total can be stated of the
    charges; None if it can. `looks`: how often somebody saw exact figures of these images, or of
    a run on them.
    """

    datasets: frozenset[str]
    charges: tuple[dict[str, Any], ...]
    cap: float | None
    released: bool
    adaptive: bool
    unclear: str | None = None
    looks: int = 0

    @property
    def terms(self) -> dict[str, Any] | None:
        """Unit, relation and delta of the first charge; None before it.

        Relation and delta are those of every later one, unless `unclear` says otherwise.
        """
        return {name: self.charges[0][name] for name in TERMS} if self.charges else None


def inherited_charges(charges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the bases of these charges had cost other owners, each run once.

    Such a base may come from the same images.
    """
    own = {charge.get("run") for charge in charges}
    found: dict[str, dict[str, Any]] = {}
    for ancestor in (a for charge in charges for a in charge.get("lineage", ())):
        for charge in ancestor["charges"]:
            if charge["run"] not in own:
                found.setdefault(charge["run"], {**charge, "ancestor": True})
    return list(found.values())


class DataSets:
    """The data sets of a chain.

    They are its OPEN, JOIN, CAP and CHARGE rows, and the tables of hashed images, files and units
    beside them.
    """

    def __init__(self, chain: Chain):
        self.chain = chain
        self._agree: dict[frozenset[str], bool] = {}

    def overlapping(self, manifest: Manifest) -> frozenset[str]:
        """Returns the data sets that hold one of these images, by pixels or bytes, or units.

        If set and listing are known, that is the set itself: JOIN rows name the others.
        """
        opened = {(known.dataset, known.listing or "") for known in self.chain.entries(Opened)}
        own: set[str] = {manifest.id} & {dataset for dataset, _ in opened}
        if own and (not manifest.listing or (manifest.id, manifest.listing) in opened):
            return frozenset(own)
        files = {file for _, file, _ in manifest.traces} - {b""}
        units = {unit for _, _, unit in manifest.traces} - {b""}
        listings = self._holding("listing", "trace", "file", files, "AND file != x''")
        listings |= self._holding("listing", "trace", "unit", units, "AND unit != x''")
        found = {dataset for dataset, listing in opened if listing in listings}
        # A set that is known shares the pixels that its JOIN rows name; only files and units may be
        # new.
        return (
            frozenset(
                own
                or self._holding("dataset", "record", "hmac", {key for key, _ in manifest.records})
            )
            | found
        )

    def _holding(
        self, wanted: str, table: str, column: str, keys: Collection[bytes], rest: str = ""
    ) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(keys := list(keys)), 500):
            part = keys[start : start + 500]
            query = (
                f"SELECT DISTINCT {wanted} FROM {table} WHERE {column} IN"
                f" ({','.join('?' * len(part))}) {rest}"
            )
            found.update(name for (name,) in self.chain.read(query, part))
        return found

    def held(self, dataset: str, listing: str | None) -> tuple[set[bytes], set[bytes], set[bytes]]:
        """Keyed hashes of a data set's pictures, and of files and units of a listing of it."""
        records = self.chain.read("SELECT hmac FROM record WHERE dataset = ?", [dataset])
        traces = self.chain.read("SELECT file, unit FROM trace WHERE listing = ?", [listing or ""])
        files, units = {file for file, _ in traces}, {unit for _, unit in traces}
        return {key for (key,) in records}, files - {b""}, units - {b""}

    def open(self, manifest: Manifest, overlapping: frozenset[str]) -> None:
        """Enter a data set, or a listing of one, that is not known yet; inside a transaction."""
        opened = [own for own in self.chain.entries(Opened) if own.dataset == manifest.id]
        known = {own.listing for own in opened}
        if opened and (not manifest.listing or manifest.listing in known):
            return
        self.chain.enter(Opened(dataset=manifest.id, listing=manifest.listing or None))
        if not opened:
            rows = [(key, copies, manifest.id) for key, copies in manifest.records]
            self.chain.db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        self.chain.db.executemany(
            "INSERT INTO trace VALUES (?, ?, ?, ?)",
            [(manifest.listing, *trace) for trace in manifest.traces],
        )
        if others := overlapping - {manifest.id}:
            self.chain.enter(Joined(dataset=manifest.id, others=sorted(others)))

    def unclear(
        self, charges: Sequence[Mapping[str, Any]], coming: Manifest | None = None
    ) -> str | None:
        """Returns why no total can be stated for these charges, or None if it can.

        Args:
            charges: Bodies of CHARGE rows.
            coming: The data set of the last of them, if it is not charged yet.
        """
        own = [charge for charge in charges if "ancestor" not in charge]
        # A charge refuses other terms (`Charges.fitting`); a cap or a look joins what was charged.
        if any(len({c[name] for c in own if name in c}) > 1 for name in SAME):
            return TERMS_APART
        if any(
            c["unit"] != IMAGES or c["relation"] != own[0]["relation"]
            for c in charges
            if "ancestor" in c
        ):
            return FOREIGN
        units = {charge["unit"] for charge in charges}
        if len(charges) < 2 or units == {IMAGES}:
            return None
        if IMAGES in units:
            return MIXED
        listings = frozenset(charge.get("listing", "") for charge in charges)
        if "" in listings:
            return UNKNOWN
        if listings not in self._agree:
            runs = (
                [self._traces(listing, coming) for listing in listings] if len(listings) > 1 else []
            )
            self._agree[listings] = same_units(runs)
        return None if self._agree[listings] else APART

    def _traces(self, listing: str, coming: Manifest | None) -> Iterable[Trace]:
        if coming is not None and coming.listing == listing:
            return coming.traces
        query = "SELECT picture, file, unit FROM trace WHERE listing = ?"
        return [(picture, file, unit) for picture, file, unit in self.chain.read(query, [listing])]

    def group(
        self, datasets: frozenset[str], before: int | None = None, *, former: bool = False
    ) -> Group:
        """Returns these data sets and all that are linked to them by shared images or units.

        Args:
            datasets: Names of the sets.
            before: A row's number: the group as it was before that row.
            former: With the outputs that earlier versions counted (`outputs.FORMER`).
        """

        def earlier(row: Row) -> bool:
            return before is None or row.seq < before

        def rows(sort: type[E]) -> list[tuple[Row, E]]:
            return [pair for pair in self.chain.entered(sort) if earlier(pair[0])]

        group = set(datasets)
        joined = [{joined.dataset, *joined.others} for _, joined in rows(Joined)]
        while more := {d for sets in joined if sets & group for d in sets} - group:
            group |= more
        charged = [row for row, charge in rows(Charged) if charge.dataset in group]
        runs = {row.run_id for row in charged}
        made = output_rows(self.chain, FORMER if former else OUTPUTS)
        left = [row.seq for row in made if row.run_id in runs and earlier(row)]
        looks = [
            row for row, look in rows(Looked) if row.run_id in runs or group.intersection(look.data)
        ]
        caps: dict[str, float] = {}
        for _, cap in rows(Capped):
            counts_alone = cap.raising is None or cap.raising
            for dataset in cap.datasets:
                before_it = math.inf if counts_alone else caps.get(dataset, math.inf)
                caps[dataset] = min(before_it, cap.epsilon)
        own = [{**row.body, "run": row.run_id} for row in charged]
        inherited = inherited_charges(own)
        charges = (*own, *inherited)
        return Group(
            frozenset(group),
            charges,
            min((cap for dataset, cap in caps.items() if dataset in group), default=None),
            bool(left) or bool(inherited),
            bool(inherited) or (bool(left) and charged[-1].seq > left[0]),
            self.unclear(charges),
            len(looks),
        )

    def verify(self) -> None:
        """Checks the tables of hashed images, files and units against the chain's OPEN rows.

        Raises:
            LedgerError: They are not the tables that the rows name.
        """
        held: dict[str, list[tuple[bytes, int]]] = {}
        traces: dict[str, list[Trace]] = {}
        with self.chain.snapshot():
            table = self.chain.read("SELECT hmac, copies, dataset FROM record ORDER BY hmac", [])
            more = self.chain.read(
                "SELECT listing, picture, file, unit FROM trace ORDER BY picture, file, unit", []
            )
        for key, copies, dataset in table:
            held.setdefault(dataset, []).append((key, copies))
        for listing, picture, file, unit in more:
            traces.setdefault(listing, []).append((picture, file, unit))
        opened = self.chain.entries(Opened)
        named = {known.dataset for known in opened}
        listed = {known.listing: known.dataset for known in opened if known.listing is not None}
        try:
            whole = set(held) == named and all(Manifest(tuple(v)).id == k for k, v in held.items())
            whole = whole and set(traces) == set(listed)
            whole = whole and all(listing_of(listed[k], v) == k for k, v in traces.items())
        except (TypeError, AttributeError, OverflowError):
            whole = False
        if not whole:
            raise LedgerError(
                "the ledger's table of images is damaged: put the newest whole copy back"
            )
