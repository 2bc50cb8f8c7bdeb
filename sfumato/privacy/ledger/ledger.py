"""The ledger: all charges ever made on the owner's images, in whichever run or folder, and the cap.

Images are known by keyed hashes of their decoded pixels, of their files' bytes and of their units'
values. Data sets that share one form a group: their charges compose for ever, and the smallest cap
wins. If runs of a group define a unit differently, no total is stated, and none passes a cap.
Charge before read, cap check and charge in one transaction, no refunds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfumato.privacy.files import lock
from sfumato.privacy.ledger import past
from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.charges import Charges, Price
from sfumato.privacy.ledger.datasets import DataSets, Group, Manifest
from sfumato.privacy.ledger.disks import file_system, is_local
from sfumato.privacy.ledger.entries import Charged, OnDisk, Opened
from sfumato.privacy.ledger.faults import LedgerError, OlderCopy
from sfumato.privacy.ledger.formats import NEWEST
from sfumato.privacy.ledger.notes import Begun
from sfumato.privacy.ledger.order import EXPORTED
from sfumato.privacy.ledger.partition import Trace
from sfumato.privacy.ledger.public import PublicInput, PublicInputs
from sfumato.privacy.ledger.rows import Row, canonical
from sfumato.privacy.ledger.secret import load_key

NOT_LOCAL = (
    "the ledger lies on {}, which is not known to be a local disk, and over a network locks may"
    " fail and a charge be lost: name a local disk with --ledger, or accept it with"
    " --allow-file-system, which every later certificate shows"
)
SHORT = 16  # bytes of a keyed hash that name a file or a unit


class Ledger:
    """The ledger file at `path` and its secret key beside it (`path`.key), made when missing.

    Raises LedgerError when either is damaged, alone, readable by others, older than it was, or on a
    file system that is not known to be local. `restored`: an older copy is accepted, because the
    newest is gone; a RESET row records it for ever. It takes no charge back. `allow_file_system`:
    the file system is accepted from then on, and a row records it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        restored: bool = False,
        allow_file_system: bool = False,
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
            self.charges = Charges(self.chain, self.datasets, self.public)
            if not self.chain.rows:
                with self.chain.transaction():
                    if not self.chain.rows:
                        own = os.urandom(8).hex()
                        self.chain.enter(Begun(format=NEWEST, key=self.key_id, id=own))
            self._accept_file_system(allow_file_system)
        finally:
            os.close(gate)
        if restored:
            self.datasets.verify()
            past.reset_ledger(self.chain)

    def _accept_file_system(self, allowed: bool) -> None:
        """Accepts a file system that is not local if it is allowed, now (with a row) or before.

        Raises:
            LedgerError: The file system is not known to be local and is not allowed.
        """
        if is_local(self.file_system) or self.file_system in self.file_systems:
            return
        if not allowed:
            self.close()
            raise LedgerError(NOT_LOCAL.format(self.file_system))
        with self.chain.transaction():
            if self.file_system not in self.file_systems:
                self.chain.enter(OnDisk(file_system=self.file_system))

    @property
    def file_systems(self) -> list[str]:
        """File systems, not known to be local, that the ledger was kept on by the owner's leave."""
        return sorted({disk.file_system for disk in self.chain.entries(OnDisk)})

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key without revealing it."""
        return self.chain.key.id

    @property
    def resets(self) -> list[dict[str, Any]]:
        """Every acceptance of an older copy: row, day, missing rows (None: unknown), and run."""
        return past.resets(self.chain)

    def agrees(self, run_id: str, folder: Path) -> bool:
        """Whether neither the ledger nor the run folder is older than the other has seen."""
        try:
            past.check_run(self.chain, run_id, folder)
        except OlderCopy:
            return False
        return True

    def reset_run(self, run_id: str, folder: Path) -> None:
        """Accepts a run folder and a ledger of which one is older, because the newest copy is gone.

        The folder lacks rows of its run, or knows of rows that this ledger lacks.

        Raises:
            LedgerError: The ledger does not know the run.
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
        """Hash of the newest row.

        In a certificate it shows rows that are deleted later, or an older copy put back.
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
        """Returns the manifest of images; it is private outside this ledger.

        Args:
            prints: A hash of each image's decoded pixels (b"": none).
            files: A hash of each image's file, b"" if there is none.
            units: A hash of the value of each image's unit, b"" if there is none.
        """
        keyed = self._keys_of(prints, files, units)
        counts = Counter(key for key, _, _ in keyed if key)
        traces: set[Trace] = {
            (key[:SHORT], file, unit) for key, file, unit in keyed if key and (file or unit)
        }
        return Manifest(tuple(sorted(counts.items())), tuple(sorted(traces)))

    def _keys_of(
        self,
        prints: Sequence[bytes],
        files: Sequence[bytes] | None,
        units: Sequence[bytes] | None,
    ) -> list[Trace]:
        """Keyed hashes of each slot: its picture's, its file's and its unit's, b"" for none."""
        known: dict[tuple[bytes, bytes], bytes] = {}

        def short(kind: bytes, value: bytes) -> bytes:
            if value and (kind, value) not in known:
                known[kind, value] = self.keyed(kind + value)[:SHORT]
            return known[kind, value] if value else b""

        return [
            (
                self.keyed(fingerprint) if fingerprint else b"",
                short(b"file", files[slot] if files else b""),
                short(b"unit", units[slot] if units else b""),
            )
            for slot, fingerprint in enumerate(prints)
        ]

    def shared(
        self,
        charged: Charged,
        prints: Sequence[bytes],
        files: Sequence[bytes] | None = None,
        units: Sequence[bytes] | None = None,
    ) -> list[tuple[bool, bool]]:
        """Whether each image, and its unit, is one of those that a run was charged for.

        Args:
            charged: The run's charge.
            prints: As in `identify`; an image without a hash is none of them.
            files: As in `identify`.
            units: As in `identify`. Of runs that an earlier version charged, no unit is known.

        Returns:
            (image, unit) for each slot.
        """
        with self.chain.snapshot():
            pictures, own_files, own_units = self.datasets.held(charged.dataset, charged.listing)
        return [
            (
                bool(key) and (key in pictures or file in own_files),
                bool(key) and unit in own_units,
            )
            for key, file, unit in self._keys_of(prints, files, units)
        ]

    def group(self, manifest: Manifest) -> Group:
        """All data sets linked to `manifest` by shared images, and what was spent on them."""
        with self.chain.snapshot():
            return self.datasets.group(self.datasets.overlapping(manifest))

    def groups(self) -> list[Group]:
        """Every group, by its oldest data set."""
        self.chain.refresh()
        found: list[Group] = []
        for opened in self.chain.entries(Opened):
            if not any(opened.dataset in group.datasets for group in found):
                found.append(self.datasets.group(frozenset({opened.dataset})))
        return found

    def charge(
        self,
        run_id: str,
        manifest: Manifest,
        body: Mapping[str, Any],
        price: Price,
        *,
        public: Sequence[PublicInput] = (),
        captions: Sequence[bytes] = (),
    ) -> Row:
        """Charges a whole planned run, durably, or raises OverBudget and writes nothing.

        Args:
            run_id: The run, which is charged once.
            manifest: Its private images and units.
            body: As in `Charges.charge`.
            price: As in `Charges.charge`.
            public: Inputs that the run takes as public, one PUBLIC row each.
            captions: As in `Charges.charge`.

        Returns:
            The CHARGE row.
        """
        taken = [(given.decided, self.identify(given.prints, given.files)) for given in public]
        return self.charges.charge(run_id, manifest, body, price, public=taken, captions=captions)

    def require_untaken(self, manifest: Manifest) -> None:
        """OverBudget if some of these images were taken as public by an earlier run."""
        self.charges.require_untaken(manifest)

    def set_cap(self, manifest: Manifest, epsilon: float, *, raising: bool = False) -> Row:
        """Cap what these images may cost, as in `Charges.set_cap`."""
        return self.charges.set_cap(manifest, epsilon, raising=raising)

    def verify_records(self) -> None:
        """LedgerError unless the table of hashed images is the one that the chain names."""
        self.charges.verify_records()

    def export(self) -> Iterator[str]:
        """Yields every row as one line of canonical JSON, so that anyone can check the chain.

        No line holds a hashed image or a time. Of kinds that are written while a run trains only
        the hashes are exported: when a run reached which step depends on the sizes of its batches.
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
