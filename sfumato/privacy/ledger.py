"""The ledger: all that was ever charged on the owner's images, whichever run, folder or name they came in; and the cap.

Images are known by keyed hashes of their decoded pixels. Data sets that share an image form a group: their charges compose for
ever, and the smallest cap wins. Charge before read, cap check and charge in one transaction, no refunds.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sfumato.privacy.chain import Chain, LedgerError, Row, canonical, load_key

KINDS = ("NOTE", "OPEN", "JOIN", "CAP", "PLAN", "CHARGE", "ATTEMPT", "PROBE", "REPLAY", "RELEASE", "CERTIFY")
_NEEDS = {
    "CHARGE": "PLAN",
    "ATTEMPT": "CHARGE",
    "PROBE": "ATTEMPT",
    "REPLAY": "ATTEMPT",
    "RELEASE": "ATTEMPT",
    "CERTIFY": "RELEASE",
}
TERMS = ("unit", "relation", "delta")
FORMAT = 1
_ANOTHER = "another copy of this run folder was started meanwhile: continue with that one"

Price = Callable[[list[dict], bool], float]


class OverBudget(LedgerError):
    """A charge that breaks the cap or cannot be added to what was charged before, or steps beyond the retry reserve."""


@dataclass(frozen=True)
class Manifest:
    """The images of one data set as keyed hashes: sorted (hmac, copies). `id` names the set; nothing of it leaves the ledger."""

    records: tuple[tuple[bytes, int], ...]

    @property
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


class Ledger:
    """The ledger file at `path` and its secret key beside it (`path`.key); both are made when missing.

    Raises LedgerError when either is damaged, alone, readable by others or older than it was.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path = Path(path).absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            gate = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerError(
                f"the ledger cannot be made ({error.strerror}): name another place with --ledger or SFUMATO_LEDGER"
            ) from error
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)  # key and first row appear together
            self._key = load_key(path)
            self.chain = Chain(path)
            if not self.chain.rows:
                with self.chain.transaction():
                    if not self.chain.rows:
                        self.chain.append("NOTE", "", {"format": FORMAT, "key": self.key_id})
        finally:
            os.close(gate)
        if self.chain.rows[0].body.get("key") != self.key_id:
            raise LedgerError("the ledger's key is not the one that it was made with: put ledger and key back together")

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key without telling it."""
        return hashlib.sha256(b"id" + self._key).hexdigest()[:16]

    @property
    def rows(self) -> list[Row]:
        """All rows, oldest first."""
        return self.chain.rows

    @property
    def head(self) -> str:
        """Hash of the newest row: in a certificate it shows rows deleted, or an older copy put back, later."""
        return self.chain.head

    def keyed(self, fingerprint: bytes) -> bytes:
        """HMAC-SHA256 of one image's hash under the ledger's key."""
        return hmac.digest(self._key, fingerprint, "sha256")

    def identify(self, prints: Sequence[bytes]) -> Manifest:
        """The manifest of images given by a hash of their decoded pixels each; private outside this ledger."""
        counts = Counter(self.keyed(fingerprint) for fingerprint in prints)
        return Manifest(tuple(sorted(counts.items())))

    def group(self, manifest: Manifest) -> Group:
        """All data sets that share an image with `manifest`, directly or through others, and what was spent on them."""
        with self.chain.snapshot():
            return self._group(self._overlapping(manifest))

    def groups(self) -> list[Group]:
        """Every group, by its oldest data set."""
        self.chain.refresh()
        found: list[Group] = []
        for row in self.rows:
            if row.kind == "OPEN" and not any(row.body["dataset"] in group.datasets for group in found):
                found.append(self._group({row.body["dataset"]}))
        return found

    def charge(self, run_id: str, manifest: Manifest, body: Mapping, price: Price) -> Row:
        """Charge a whole planned run, durably, or raise OverBudget and write nothing.

        `body`: events (in JSON form), unit, relation, delta, epsilon of the run alone, and more to keep. `price(charges,
        released)`: epsilon of all these bodies composed, where `released` says that later ones were chosen after a release.
        """
        events = body.get("events")
        if not (isinstance(events, list) and events and all(isinstance(e, dict) for e in events)):
            raise ValueError("a CHARGE row lists its events: give events.to_json(plan.events)")
        self.verify_records()  # a damaged table would forget images that were charged
        while True:
            seen = self.group(manifest)
            total = self._fitting(seen, dict(body), price)
            # Pricing takes seconds, so it is done outside; inside, it must still be about the same group.
            with self.chain.transaction():
                self._require(run_id, "CHARGE")
                if self._rows_of(run_id, "CHARGE"):
                    raise LedgerError("this run is charged already: a run is charged once")
                overlapping = self._overlapping(manifest)
                if self._group(overlapping) != seen:
                    continue
                self._open(manifest, overlapping)
                facts = {"dataset": manifest.id, "cap": seen.cap, "total": total}
                return self.chain.append("CHARGE", run_id, {**body, **facts})

    def _fitting(self, group: Group, body: dict, price: Price) -> float | None:
        """What the group will have cost; None where that is not finite. OverBudget if it must not be."""
        for name in TERMS if group.charges else ():
            if {charge[name] for charge in group.charges} != {body[name]}:
                raise OverBudget(
                    f"these images were charged before with {name} {group.charges[0][name]!r}, and costs with "
                    f"different ones cannot be added: give the same {name}"
                )
        total = price([*group.charges, body], group.released) if group.charges else body["epsilon"]
        if group.cap is not None and not total <= group.cap:
            raise OverBudget(
                f"the cap on these images is epsilon {group.cap:g}; {len(group.charges)} earlier charges and this run "
                f"come to {total:.3f}: plan a smaller --epsilon, or raise the cap (`sfumato ledger cap`, recorded)"
            )
        return total if math.isfinite(total) else None

    def set_cap(self, manifest: Manifest, epsilon: float) -> Row:
        """Cap what these images, and all sets that share one with them, may cost; raising it is a row like any other."""
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 < epsilon < math.inf:
            raise ValueError("a cap is a finite epsilon above 0")
        self.verify_records()
        with self.chain.transaction():
            overlapping = self._overlapping(manifest)
            group = self._group(overlapping)
            self._open(manifest, overlapping)
            datasets = sorted({*group.datasets, manifest.id})
            return self.chain.append("CAP", "", {"datasets": datasets, "before": group.cap, "epsilon": float(epsilon)})

    def _open(self, manifest: Manifest, overlapping: set[str]) -> None:
        if manifest.id in overlapping:
            return
        self.chain.append("OPEN", "", {"dataset": manifest.id})
        rows = [(key, copies, manifest.id) for key, copies in manifest.records]
        self.chain.db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        if overlapping:
            self.chain.append("JOIN", "", {"dataset": manifest.id, "with": sorted(overlapping)})

    def _overlapping(self, manifest: Manifest) -> set[str]:
        """Data sets that hold one of these images."""
        found: set[str] = set()
        keys = [key for key, _ in manifest.records]
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT DISTINCT dataset FROM record WHERE hmac IN ({marks})"
            found.update(dataset for (dataset,) in self.chain.read(query, part))
        return found

    def verify_records(self) -> None:
        """LedgerError unless the table of hashed images is the one that the chain's OPEN rows name."""
        held: dict[str, list[tuple[bytes, int]]] = {}
        with self.chain.snapshot():
            table = self.chain.read("SELECT hmac, copies, dataset FROM record ORDER BY hmac", [])
        for key, copies, dataset in table:
            held.setdefault(dataset, []).append((key, copies))
        named = {row.body["dataset"] for row in self.rows if row.kind == "OPEN"}
        try:
            whole = set(held) == named and all(Manifest(tuple(v)).id == k for k, v in held.items())
        except (TypeError, AttributeError, OverflowError):
            whole = False
        if not whole:
            raise LedgerError("the ledger's table of images is damaged: put the newest whole copy back")

    def _group(self, datasets: set[str]) -> Group:
        group = set(datasets)
        joined = [{row.body["dataset"], *row.body["with"]} for row in self.rows if row.kind == "JOIN"]
        while more := {d for sets in joined if sets & group for d in sets} - group:
            group |= more
        charged = [row for row in self.rows if row.kind == "CHARGE" and row.body["dataset"] in group]
        runs = {row.run_id for row in charged}
        left = [row.seq for row in self.rows if row.kind == "RELEASE" and row.run_id in runs]
        caps = {d: row.body["epsilon"] for row in self.rows if row.kind == "CAP" for d in row.body["datasets"]}
        return Group(
            frozenset(group),
            tuple({**row.body, "run": row.run_id} for row in charged),
            min((cap for dataset, cap in caps.items() if dataset in group), default=None),
            bool(left),
            bool(left) and charged[-1].seq > left[0],
        )

    def _rows_of(self, run_id: str, kind: str) -> list[Row]:
        return [row for row in self.rows if row.run_id == run_id and row.kind == kind]

    def _require(self, run_id: str, kind: str) -> None:
        need = _NEEDS.get(kind)
        if need and not self._rows_of(run_id, need):
            raise LedgerError(f"a {kind} row needs a {need} row before it: charge first, then read, then release")

    def export(self) -> Iterator[str]:
        """Every row as one line of canonical JSON: the chain can be checked by anyone, and no line holds a hashed image."""
        self.chain.refresh()
        for row in self.rows:
            yield canonical(asdict(row))

    def close(self) -> None:
        """Close the file."""
        self.chain.close()


class RunLedger:
    """The rows of one run. PLAN, CHARGE (the whole planned run), ATTEMPT, then PROBE (noisy scores, once), RELEASE, CERTIFY and REPLAY;
    NOTE anywhere."""

    def __init__(self, ledger: Ledger, run_id: str):
        self.ledger, self.run_id = ledger, run_id

    @property
    def rows(self) -> tuple[Row, ...]:
        """The run's rows, oldest first."""
        self.ledger.chain.refresh()
        return tuple(row for row in self.ledger.rows if row.run_id == self.run_id)

    def bodies(self, kind: str) -> list[dict]:
        """The bodies of the run's rows of one kind, oldest first."""
        return [row.body for row in self.rows if row.kind == kind]

    @property
    def attempts(self) -> int:
        """Starts so far; the next attempt's number."""
        return len(self.bodies("ATTEMPT"))

    def charged_events(self) -> list[dict]:
        """The events charged for this run, in the JSON form of `events.to_json`."""
        return [event for body in self.bodies("CHARGE") for event in body["events"]]

    def group(self) -> Group:
        """The data sets that the run's images belong to. LedgerError before the charge."""
        if not self.charged_events():
            raise LedgerError("the run was never charged: adapt into a new folder")
        return self.ledger._group({self.bodies("CHARGE")[0]["dataset"]})

    def append(self, kind: str, body: Mapping) -> Row:
        """One more row, durable on return. LedgerError out of order; a charge goes through `Ledger.charge`."""
        if kind not in KINDS or kind in ("CHARGE", "OPEN", "JOIN", "CAP"):
            raise ValueError("this row cannot be appended by hand")
        with self.ledger.chain.transaction():
            self.ledger._require(self.run_id, kind)
            if body.get("attempt") not in (None, len(self.ledger._rows_of(self.run_id, "ATTEMPT")) - 1):
                raise LedgerError(_ANOTHER)  # its steps were billed up to its last checkpoint only
            if kind == "PROBE" and self.ledger._rows_of(self.run_id, kind):
                raise LedgerError(_ANOTHER)  # one probe is paid for, and training follows the one recorded
            return self.ledger.chain.append(kind, self.run_id, body, body.get("attempt"))

    def begin(self, body: Mapping, *, expected: int, reserve: int) -> Row:
        """The ATTEMPT row of attempt number `expected`; `body["billed"]` steps come out of the run's `reserve` of steps.

        A copy of the run folder meets the same rows here: it can neither start the same attempt nor spend the reserve twice.
        """
        with self.ledger.chain.transaction():
            self.ledger._require(self.run_id, "ATTEMPT")
            done = self.ledger._rows_of(self.run_id, "ATTEMPT")
            if len(done) != expected:
                raise LedgerError(_ANOTHER)
            needed = sum(row.body["billed"] for row in done) + body["billed"]
            if needed > reserve:
                raise OverBudget(
                    f"the retry reserve is spent ({reserve} steps planned, {needed} needed): "
                    "plan with a larger --retry-reserve"
                )
            return self.ledger.chain.append("ATTEMPT", self.run_id, {**body, "attempt": expected}, expected)
