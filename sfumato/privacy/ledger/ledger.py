"""The ledger: all that was ever charged on the owner's images, whichever run, folder or name they
came in; and the cap.

Images are known by keyed hashes of their decoded pixels, of their files' bytes and of their units'
values. Data sets that share one form a group: their charges compose for ever, and the smallest cap
wins. Where runs of a group do not mean the same by a unit, no total is stated, and none is let
under a cap. Charge before read, cap check and charge in one transaction, no refunds.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from sfumato.privacy.files import lock
from sfumato.privacy.ledger import past
from sfumato.privacy.ledger.chain import Chain, Row, canonical
from sfumato.privacy.ledger.datasets import SAME, DataSets, Group, Manifest, inherited_charges
from sfumato.privacy.ledger.disks import file_system, is_local
from sfumato.privacy.ledger.faults import LedgerError, OlderCopy
from sfumato.privacy.ledger.formats import NEWEST
from sfumato.privacy.ledger.public import PublicInput, PublicInputs
from sfumato.privacy.ledger.secret import load_key

KINDS = (
    "NOTE",
    "OPEN",
    "JOIN",
    "CAP",
    "PLAN",
    "PUBLIC",
    "CHARGE",
    "ATTEMPT",
    "PROBE",
    "REPLAY",
    "RELEASE",
    "CERTIFY",
    "RESET",
    "DISK",
    "LOOK",  # exact figures that somebody saw
    "SELECT",  # a choice by noisy ones
)
# Rows that `export` writes out: nothing in them follows which units were drawn.
EXPORTED = (
    "OPEN",
    "JOIN",
    "CAP",
    "PLAN",
    "PUBLIC",
    "CHARGE",
    "PROBE",
    "RELEASE",
    "CERTIFY",
    "RESET",
    "DISK",
    "LOOK",
    "SELECT",
)
_NEEDS = {
    "CHARGE": "PLAN",
    "ATTEMPT": "CHARGE",
    "PROBE": "ATTEMPT",
    "REPLAY": "ATTEMPT",
    "RELEASE": "ATTEMPT",
    "CERTIFY": "RELEASE",
    "LOOK": "CHARGE",
    "SELECT": "CHARGE",
}
NOT_LOCAL = (
    "the ledger lies on {}, which is not known to be a local disk, and over a network locks may"
    " fail and a charge be lost: name a local disk with --ledger, or accept it with"
    " --allow-file-system, which every later certificate shows"
)
SHORT = 16  # bytes of a keyed hash that name a file or a unit
_SAME_NOISE = (
    "another copy of this run folder ended this attempt with other numbers but the same noise: use"
    " that one"
)
_ANOTHER = "another copy of this run folder was started meanwhile: continue with that one"

Price = Callable[[list[dict], bool], float]


class OverBudget(LedgerError):
    """A charge that breaks the cap or cannot be added to what was charged before, or steps beyond
    the retry reserve.
    """


class Ledger:
    """The ledger file at `path` and its secret key beside it (`path`.key); both are made when
    missing.

    Raises LedgerError when either is damaged, alone, readable by others, older than it was, or on a
    file system that is not known to be local. `restored`: an older copy is accepted, because the
    newest is gone; a RESET row says so for ever. It takes no charge back. `allow_file_system`: a
    row says so too, and that file system is accepted from then on.
    """

    def __init__(
        self, path: str | os.PathLike, *, restored: bool = False, allow_file_system: bool = False
    ):
        self.path = path = Path(path).absolute()
        self.file_system = file_system(path)
        if not (is_local(self.file_system) or allow_file_system or path.exists()):
            raise LedgerError(NOT_LOCAL.format(self.file_system))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            gate = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerError(
                f"the ledger cannot be made ({error.strerror}): name another place with --ledger or"
                " SFUMATO_LEDGER"
            ) from error
        try:
            lock(gate)  # key and first row appear together
            self.chain = Chain(path, load_key(path), restored=restored)
            self.datasets = DataSets(self.chain)
            self.public = PublicInputs(self.chain, self.keyed)
            if not self.chain.rows:
                with self.chain.transaction():
                    if not self.chain.rows:
                        self.chain.append(
                            "NOTE",
                            "",
                            {"format": NEWEST, "key": self.key_id, "id": os.urandom(8).hex()},
                        )
            self._accept_file_system(allow_file_system)
        finally:
            os.close(gate)
        if restored:
            self.datasets.verify()
            past.reset_ledger(self.chain)

    def _accept_file_system(self, allowed: bool) -> None:
        """LedgerError on what is no local file system, unless it is allowed now, which leaves a
        row, or was before.
        """
        if is_local(self.file_system) or self.file_system in self.file_systems:
            return
        if not allowed:
            self.close()
            raise LedgerError(NOT_LOCAL.format(self.file_system))
        with self.chain.transaction():
            if self.file_system not in self.file_systems:
                self.chain.append("DISK", "", {"file_system": self.file_system})

    @property
    def file_systems(self) -> list[str]:
        """What the ledger has lain on that is not known to be a local disk, by the owner's
        leave.
        """
        return sorted({row.body["file_system"] for row in self.chain.of("DISK")})

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key without telling it."""
        return self.chain.key.id

    @property
    def resets(self) -> list[dict]:
        """How often an older copy was accepted: row, day, how many rows are known to be missing
        (None: unknown), and of which run.
        """
        return past.resets(self.chain)

    def agrees(self, run_id: str, folder: Path) -> bool:
        """Whether neither the ledger nor the run folder is an older copy than the other has
        seen.
        """
        try:
            past.check_run(self.chain, run_id, folder)
        except OlderCopy:
            return False
        return True

    def reset_run(self, run_id: str, folder: Path) -> None:
        """Accept a run folder that lacks rows of its run, or knows of rows that this ledger lacks,
        because the newest copy is gone.
        """
        if not self.chain.of_run(run_id):
            raise LedgerError("the ledger does not know this run at all: adapt into a new folder")
        past.reset_run(self.chain, run_id, folder)

    @property
    def rows(self) -> list[Row]:
        """All rows, oldest first."""
        return self.chain.rows

    @property
    def head(self) -> str:
        """Hash of the newest row: in a certificate it shows rows deleted, or an older copy put
        back, later.
        """
        return self.chain.head

    def keyed(self, fingerprint: bytes) -> bytes:
        """HMAC-SHA256 of one image's hash under the ledger's key."""
        return self.chain.key.keyed(fingerprint)

    def identify(
        self,
        prints: Sequence[bytes],
        files: Sequence[bytes] | None = None,
        units: Sequence[bytes] | None = None,
    ) -> Manifest:
        """The manifest of images given by a hash of their decoded pixels each (b"" is none);
        private outside this ledger.

        `files`, `units`: beside each, a hash of its file's bytes and of its unit's value, b"" where
        there is none.
        """
        keyed = [self.keyed(fingerprint) if fingerprint else b"" for fingerprint in prints]
        counts = Counter(key for key in keyed if key)
        known: dict[tuple[bytes, bytes], bytes] = {}

        def short(kind: bytes, value: bytes) -> bytes:
            if value and (kind, value) not in known:
                known[kind, value] = self.keyed(kind + value)[:SHORT]
            return known[kind, value] if value else b""

        traces = set()
        for slot, key in enumerate(keyed):
            file, unit = (
                short(b"file", files[slot] if files else b""),
                short(b"unit", units[slot] if units else b""),
            )
            if key and (file or unit):
                traces.add((key[:SHORT], file, unit))
        return Manifest(tuple(sorted(counts.items())), tuple(sorted(traces)))

    def group(self, manifest: Manifest) -> Group:
        """All data sets that share an image with `manifest`, directly or through others, and what
        was spent on them.
        """
        with self.chain.snapshot():
            return self.datasets.group(self.datasets.overlapping(manifest))

    def groups(self) -> list[Group]:
        """Every group, by its oldest data set."""
        self.chain.refresh()
        found: list[Group] = []
        for row in self.chain.of("OPEN"):
            if not any(row.body["dataset"] in group.datasets for group in found):
                found.append(self.datasets.group(frozenset({row.body["dataset"]})))
        return found

    def charge(
        self,
        run_id: str,
        manifest: Manifest,
        body: Mapping,
        price: Price,
        *,
        public: Sequence[PublicInput] = (),
        captions: Sequence[bytes] = (),
    ) -> Row:
        """Charge a whole planned run, durably, or raise OverBudget and write nothing.

        `public`: inputs that the run takes as public, one PUBLIC row each; `captions`:
        `PublicInputs.caption_keys` of the images'. `body`: events (in JSON form), unit, relation,
        delta, epsilon of the run alone, and more to keep. `price(charges, released)`: epsilon of
        all these bodies composed, where `released` says that later ones were chosen after a
        release.
        """
        events = body.get("events")
        if not (isinstance(events, list) and events and all(isinstance(e, dict) for e in events)):
            raise ValueError("a CHARGE row lists its events: give events.to_json(plan.events)")
        self.verify_records()  # a damaged table would forget images that were charged
        taken = [(given.decided, self.identify(given.prints, given.files)) for given in public]
        while True:
            with self.chain.snapshot():
                overlapping = self.datasets.overlapping(manifest)
                seen = self.datasets.group(overlapping)
            total = self._fitting(seen, {**body, "listing": manifest.listing}, price, manifest)
            # Pricing takes seconds, so it is done outside; inside, it must still be about the same
            # group.
            with self.chain.transaction():
                self._require(run_id, "CHARGE")
                if self._rows_of(run_id, "CHARGE"):
                    raise LedgerError("this run is charged already: a run is charged once")
                if (self.datasets.overlapping(manifest), self.datasets.group(overlapping)) != (
                    overlapping,
                    seen,
                ):
                    continue
                self._require_two_sides(manifest, [images for _, images in taken])
                self.datasets.open(manifest, overlapping)
                self.public.enter(run_id, taken)
                facts = {
                    "dataset": manifest.id,
                    "listing": manifest.listing,
                    "cap": seen.cap,
                    "total": total,
                }
                facts["captions"] = self.public.enter_captions(captions)
                return self.chain.append("CHARGE", run_id, {**body, **facts})

    def _require_two_sides(self, manifest: Manifest, public: Sequence[Manifest]) -> None:
        """OverBudget where an image would be private and public: what was taken as public has no
        protection any more.
        """
        self.require_untaken(manifest)
        if both := sum(map(self.public.charged, public)):
            raise OverBudget(
                f"{both} images that are taken as public were charged as private: leave them out of"
                " --public-data"
            )

    def require_untaken(self, manifest: Manifest) -> None:
        """OverBudget where some of these images were taken as public by an earlier run: exact
        functions of them are out.
        """
        if both := self.public.taken(manifest):
            raise OverBudget(
                f"{both} of these images were taken as public before (--public-data,"
                " --public-test), and nothing can protect them any more: leave them out"
            )

    def _fitting(self, group: Group, body: dict, price: Price, manifest: Manifest) -> float | None:
        """What the group will have cost; None where that cannot be stated or is not finite.
        OverBudget if it must not be.
        """
        own = [charge for charge in group.charges if "ancestor" not in charge]
        for name in SAME if own else ():
            if {charge[name] for charge in own} != {body[name]}:
                raise OverBudget(
                    f"these images were charged before with {name} {own[0][name]!r}, and costs with"
                    f" different ones cannot be added: give the same {name}"
                )
        inherited = inherited_charges([*own, body])
        charges = [*own, body, *inherited]
        if unclear := self.datasets.unclear(charges, manifest):
            if group.cap is not None:
                raise OverBudget(
                    f"the cap on these images is epsilon {group.cap:g}, and {unclear}, so no total"
                    " can be held against it: give images and unit column as in the earlier runs"
                )
            return None
        total = (
            price(charges, group.released or bool(inherited))
            if len(charges) > 1
            else body["epsilon"]
        )
        if group.cap is not None and not total <= group.cap:
            raise OverBudget(
                f"the cap on these images is epsilon {group.cap:g}; {len(charges) - 1} earlier"
                f" {'charge' if len(charges) == 2 else 'charges'} and this run come to {total:.3f}:"
                " plan a smaller --epsilon, or raise the cap (`sfumato ledger cap IMAGES EPSILON"
                " --raise`, recorded)"
            )
        return total if math.isfinite(total) else None

    def set_cap(self, manifest: Manifest, epsilon: float, *, raising: bool = False) -> Row:
        """Cap what these images, and all sets that share one with them, may cost. A higher cap than
        the one they have needs `raising`.

        ValueError for what is no figure, OverBudget for a higher one that does not say so.
        """
        if (
            isinstance(epsilon, bool)
            or not isinstance(epsilon, (int, float))
            or not 0 < epsilon < math.inf
        ):
            raise ValueError("a cap is a finite epsilon above 0")
        self.verify_records()
        with self.chain.transaction():
            overlapping = self.datasets.overlapping(manifest)
            group = self.datasets.group(overlapping)
            if group.cap is not None and epsilon > group.cap and not raising:
                raise OverBudget(
                    f"the cap on these images, or on some of them, is epsilon {group.cap:g}, and"
                    " the smallest wins: to raise it for all sets that share an image with them,"
                    " say --raise, which is recorded"
                )
            self.datasets.open(manifest, overlapping)
            datasets = sorted({*group.datasets, manifest.id})
            body = {
                "datasets": datasets,
                "before": group.cap,
                "epsilon": float(epsilon),
                "raise": raising,
            }
            return self.chain.append("CAP", "", body)

    def verify_records(self) -> None:
        """LedgerError unless the table of hashed images is the one that the chain names."""
        self.datasets.verify()
        self.public.verify()

    def _rows_of(self, run_id: str, kind: str) -> list[Row]:
        return self.chain.of(kind, run_id)

    def _require(self, run_id: str, kind: str) -> None:
        need = _NEEDS.get(kind)
        if need and not self._rows_of(run_id, need):
            raise LedgerError(
                f"a {kind} row needs a {need} row before it: charge first, then read, then release"
            )

    def export(self) -> Iterator[str]:
        """Every row as one line of canonical JSON: the chain can be checked by anyone, and no line
        holds a hashed image or a time.

        Of kinds that are written while a run trains the hashes stand alone: how far a run came by
        when follows the sizes of its batches.
        """
        self.chain.refresh()
        for row in self.rows:
            line = {k: v for k, v in asdict(row).items() if k != "written"}
            whole = row.kind in EXPORTED or row.seq == 0
            if row.seq < self.chain.old_rows and row.run_id:  # there the hash covers the time
                whole = row.kind in ("PLAN", "CHARGE")
            if not whole:
                line = {name: line[name] for name in ("seq", "prev_hash", "hash")} | {
                    "withheld": row.kind
                }
            yield canonical(line)

    def close(self) -> None:
        """Close the file."""
        self.chain.close()


class RunLedger:
    """The rows of one run. PLAN, CHARGE (the whole planned run), ATTEMPT, then PROBE (noisy scores,
    once), RELEASE, CERTIFY and REPLAY; NOTE anywhere. `folder`: the run's own, which then knows of
    each row; LedgerError where it or the ledger is an older copy.
    """

    def __init__(self, ledger: Ledger, run_id: str, folder: Path | None = None):
        self.ledger, self.run_id = ledger, run_id
        if folder is not None:
            past.check_run(ledger.chain, run_id, folder)
            ledger.chain.watch(run_id, folder)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The run's rows, oldest first."""
        self.ledger.chain.refresh()
        return tuple(self.ledger.chain.of_run(self.run_id))

    def bodies(self, kind: str) -> list[dict]:
        """The bodies of the run's rows of one kind, oldest first."""
        self.ledger.chain.refresh()
        return [row.body for row in self.ledger.chain.of(kind, self.run_id)]

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
        return self.ledger.datasets.group(frozenset({self.bodies("CHARGE")[0]["dataset"]}))

    def append(self, kind: str, body: Mapping) -> Row:
        """One more row, durable on return. LedgerError out of order; a charge goes through
        `Ledger.charge`.
        """
        if kind not in KINDS or kind in (
            "CHARGE",
            "PUBLIC",
            "OPEN",
            "JOIN",
            "CAP",
            "RESET",
            "DISK",
            "LOOK",
        ):
            raise ValueError("this row cannot be appended by hand")
        with self.ledger.chain.transaction():
            self.ledger._require(self.run_id, kind)
            if body.get("attempt") not in (
                None,
                len(self.ledger._rows_of(self.run_id, "ATTEMPT")) - 1,
            ):
                raise LedgerError(_ANOTHER)  # its steps were billed up to its last checkpoint only
            if kind == "PROBE" and self.ledger._rows_of(self.run_id, kind):
                # one probe is paid for, and training follows the one recorded
                raise LedgerError(_ANOTHER)
            if "model" in body and any(
                row.body.get("attempt") == body["attempt"]
                and row.body.get("model", body["model"]) != body["model"]
                for row in self.ledger._rows_of(self.run_id, kind)
            ):
                raise LedgerError(_SAME_NOISE)
            return self.ledger.chain.append(kind, self.run_id, body, body.get("attempt"))

    def look(self, seen: Sequence[Manifest], body: Mapping) -> Row:
        """The LOOK row of exact figures that are about to be computed from the images of `seen` and
        shown to somebody.

        The sets are entered like any other, so that a run on one of their images carries the look,
        too. LedgerError before the charge.
        """
        ledger = self.ledger
        ledger.verify_records()
        with ledger.chain.transaction():
            ledger._require(self.run_id, "LOOK")
            for manifest in seen:
                ledger.datasets.open(manifest, ledger.datasets.overlapping(manifest))
            return ledger.chain.append(
                "LOOK", self.run_id, {**body, "data": [manifest.id for manifest in seen]}
            )

    def take_public(self, decided: str, images: Manifest) -> bool:
        """The PUBLIC row of images that are about to be taken as public, once for a run; False, and
        no row, where one is known as private.
        """
        ledger = self.ledger
        ledger.verify_records()
        with ledger.chain.transaction():
            if ledger.datasets.overlapping(images) or ledger.public.charged(images):
                return False
            ledger.public.enter_once(self.run_id, decided, images)
            return True

    def begin(self, body: Mapping, *, expected: int, reserve: int, seen: int | None = None) -> Row:
        """The ATTEMPT row of attempt number `expected`; `body["billed"]` steps come out of the
        run's `reserve` of steps.

        A copy of the run folder meets the same rows here: it can neither start the same attempt nor
        spend the reserve twice. `seen`: the number of the run's rows that `billed` was reckoned
        from; another process that has started an interval since makes it too little.
        """
        billed = body["billed"]
        if isinstance(billed, bool) or not isinstance(billed, int) or billed < 0:
            raise ValueError("an attempt bills a whole number of steps, and gives none back")
        with self.ledger.chain.transaction():
            self.ledger._require(self.run_id, "ATTEMPT")
            done = self.ledger._rows_of(self.run_id, "ATTEMPT")
            if len(done) != expected or seen not in (
                None,
                len(self.ledger.chain.of_run(self.run_id)),
            ):
                raise LedgerError(_ANOTHER)
            needed = sum(row.body["billed"] for row in done) + billed
            if needed > reserve:
                raise OverBudget(
                    f"the retry reserve is spent ({reserve} steps planned, {needed} needed): "
                    "plan with a larger --retry-reserve"
                )
            return self.ledger.chain.append(
                "ATTEMPT", self.run_id, {**body, "attempt": expected}, expected
            )
