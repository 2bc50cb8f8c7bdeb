"""The rows of one run, in the order in which they may come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato.privacy.ledger import past
from sfumato.privacy.ledger.chain import E
from sfumato.privacy.ledger.charges import OverBudget
from sfumato.privacy.ledger.datasets import Group, Manifest
from sfumato.privacy.ledger.entries import Charged, Entry, Looked
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.order import KINDS, OWN, require_before
from sfumato.privacy.ledger.rows import Row

_SAME_NOISE = (
    "another copy of this run folder ended this attempt with other numbers but the same noise: use"
    " that one"
)
_ANOTHER = "another copy of this run folder was started meanwhile: continue with that one"


class RunLedger:
    """The rows of one run.

    PLAN, CHARGE (the whole planned run), ATTEMPT, then PROBE (noisy scores, once), RELEASE, CERTIFY
    and REPLAY; NOTE anywhere. `folder`: the run's own, which then knows of each row; LedgerError
    where it or the ledger is an older copy.
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

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the run's rows of one kind, oldest first."""
        self.ledger.chain.refresh()
        return [row.body for row in self.ledger.chain.of(kind, self.run_id)]

    def entries(self, sort: type[E]) -> list[E]:
        """The run's entries of one sort, oldest first."""
        self.ledger.chain.refresh()
        return self.ledger.chain.entries(sort, self.run_id)

    @property
    def attempts(self) -> int:
        """Starts so far; the next attempt's number."""
        return len(self.bodies("ATTEMPT"))

    def charged_events(self) -> list[dict[str, Any]]:
        """The events charged for this run, in the JSON form of `events.to_json`."""
        return [dict(event) for charge in self.entries(Charged) for event in charge.events]

    def group(self) -> Group:
        """The data sets that the run's images belong to. LedgerError before the charge."""
        if not self.charged_events():
            raise LedgerError("the run was never charged: adapt into a new folder")
        return self.ledger.datasets.group(frozenset({self.entries(Charged)[0].dataset}))

    def enter(self, entry: Entry) -> Row:
        """`append` of a typed entry."""
        return self.append(entry.KIND, entry.to_body())

    def append(self, kind: str, body: Mapping[str, Any]) -> Row:
        """Appends a row, durable on return.

        Args:
            kind: Any kind but CHARGE, for which there is `Ledger.charge`.
            body: The row's body.

        Returns:
            The row.

        Raises:
            ValueError: This kind cannot be appended by hand.
            LedgerError: The row is out of order.
        """
        if kind not in KINDS or kind in OWN:
            raise ValueError("this row cannot be appended by hand")
        with self.ledger.chain.transaction():
            require_before(self.ledger.chain, self.run_id, kind)
            if body.get("attempt") not in (
                None,
                len(self.ledger.chain.of("ATTEMPT", self.run_id)) - 1,
            ):
                raise LedgerError(_ANOTHER)  # its steps were billed up to its last checkpoint only
            if kind == "PROBE" and self.ledger.chain.of(kind, self.run_id):
                # one probe is paid for, and training follows the one recorded
                raise LedgerError(_ANOTHER)
            if "matched" in body and any(
                "matched" in row.body for row in self.ledger.chain.of(kind, self.run_id)
            ):
                # one vote for a base is paid for, and the run follows the one recorded
                raise LedgerError(_ANOTHER)
            # noise of the same address on other numbers, or a second release, is not paid for
            if "moments" in body and any(
                row.body.get("moments", body["moments"]) != body["moments"]
                for row in self.ledger.chain.of(kind, self.run_id)
            ):
                raise LedgerError(_SAME_NOISE)
            if "model" in body and any(
                row.body.get("attempt") == body["attempt"]
                and row.body.get("model", body["model"]) != body["model"]
                for row in self.ledger.chain.of(kind, self.run_id)
            ):
                raise LedgerError(_SAME_NOISE)
            return self.ledger.chain.append(kind, self.run_id, body, body.get("attempt"))

    def look(self, seen: Sequence[Manifest], look: Looked) -> Row:
        """Appends the LOOK row of exact figures that are about to be computed and shown.

        The sets are entered like any other, so that a later run on one of their images carries the
        look, too.

        Args:
            seen: The images that the figures are computed from.
            look: What is shown.

        Returns:
            The row; LedgerError before the charge.
        """
        ledger = self.ledger
        ledger.verify_records()
        with ledger.chain.transaction():
            require_before(ledger.chain, self.run_id, "LOOK")
            for manifest in seen:
                ledger.datasets.open(manifest, ledger.datasets.overlapping(manifest))
            sets = [manifest.id for manifest in seen]
            return ledger.chain.enter(replace(look, data=sets), self.run_id)

    def take_public(self, decided: str, images: Manifest) -> bool:
        """Appends the PUBLIC row of images about to be taken as public, once per run.

        Returns:
            False, with no row, if one of the images is known as private.
        """
        ledger = self.ledger
        ledger.verify_records()
        with ledger.chain.transaction():
            if ledger.datasets.overlapping(images) or ledger.public.charged(images):
                return False
            ledger.public.enter_once(self.run_id, decided, images)
            return True

    def begin(
        self, body: Mapping[str, Any], *, expected: int, reserve: int, seen: int | None = None
    ) -> Row:
        """Appends the ATTEMPT row of an attempt.

        A copy of the run folder meets the same rows here: it can neither start the same attempt nor
        spend the reserve twice.

        Args:
            body: `body["billed"]` steps come out of the run's reserve.
            expected: The attempt's number.
            reserve: The run's retry reserve in steps.
            seen: The number of the run's rows from which `billed` was computed; another process
                that has
                started an interval since makes it too little.

        Returns:
            The row.

        Raises:
            ValueError: `billed` is not a whole number >= 0.
            LedgerError: Another process has gone on with the run.
            OverBudget: The reserve is spent.
        """
        billed = body["billed"]
        if isinstance(billed, bool) or not isinstance(billed, int) or billed < 0:
            raise ValueError("an attempt bills a whole number of steps, and gives none back")
        with self.ledger.chain.transaction():
            require_before(self.ledger.chain, self.run_id, "ATTEMPT")
            done = self.ledger.chain.of("ATTEMPT", self.run_id)
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
