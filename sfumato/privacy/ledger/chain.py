"""A hash-chained, append-only table of rows in one SQLite file.

A row is durable before the call returns, and damage is detected.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sfumato.privacy.ledger.entries import Charged, Entry, Reset
from sfumato.privacy.ledger.faults import LedgerError, OlderCopy, in_words
from sfumato.privacy.ledger.formats import NEWEST, format_of, make_tables
from sfumato.privacy.ledger.notes import Upgraded
from sfumato.privacy.ledger.rows import GENESIS, READ, Row, canonical, hash_of, whole_row
from sfumato.privacy.ledger.secret import LedgerKey, mark_sealed
from sfumato.privacy.ledger.witness import Head, HeadNote, RunFolders, RunNote, state_folders

WAIT = 60.0  # seconds that a writer waits for the writers before it
E = TypeVar("E", bound=Entry)


def _make_private(path: Path) -> None:
    """Makes a file that its owner alone can read, unless there is one.

    One that is there is not opened: closing it would drop every lock that this process holds on it
    (POSIX), and another process would then remove the -wal file under a ledger that is in use.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


class Chain:
    """The file at `path`, made when missing (mode 0600); its whole chain is verified when opened.

    The codes of all rows are verified, too. A file of an older format is upgraded to the newest,
    with a row that records it. Notes of the newest row are kept beside the file (`path`.head) and
    in state folders, if there are any (`witness`), with the places of run folders, whose notes are
    read too. An older copy put back, a copy without its -wal file, and one of two copies that both
    went on are refused, unless `restored`; `lost` then lists the (number, hash) that were noted. If
    charges were made and no state folder knows of them, the next transaction leaves a RESET row
    that records it. Raises LedgerError.
    """

    def __init__(self, path: str | os.PathLike[str], key: LedgerKey, *, restored: bool = False):
        self.path, self.key = Path(path), key
        beside = HeadNote(self.path.with_name(self.path.name + ".head"))
        self._notes = [beside]
        self._rows: list[Row] = []
        self._by_kind: dict[str, list[Row]] = {}
        self._by_run: dict[str, list[Row]] = {}
        self._folders: dict[str, RunNote] = {}
        self.state: Path | None = None
        self._places: list[RunFolders] = []
        self._unwitnessed = False
        with in_words():
            if not self.path.exists() and beside.read():
                raise LedgerError(
                    f"the ledger {self.path} is gone: put it back, with the files beside it"
                )
            _make_private(self.path)
            self.db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            if self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                raise LedgerError(
                    "the ledger's disk has no working locks: keep it on a local disk (--ledger)"
                )
            self.db.execute("PRAGMA synchronous=FULL")
            self._format = self._make_tables()
            self.refresh()
            self._find_state()
            self.lost = self._compare()
            if self.lost and not restored:
                raise OlderCopy(
                    "the ledger is an older copy, or not the one that was last written here: put"
                    " the newest back, or, if it is gone, accept this one with `sfumato ledger"
                    " reset`, which every later certificate shows"
                )
            if self._format < NEWEST:
                self._upgrade()  # of before there were notes
            else:
                self._unwitnessed = not any(note.read() for note in self._notes[1:])
            if not key.sealed:
                self.key = mark_sealed(self.path, key)

    def _find_state(self) -> None:
        """Names the notes in the state folders by the first row.

        Copies of a ledger therefore share them, wherever they are.
        """
        if not self._rows or self.state is not None:
            return
        for folder in state_folders():
            note = folder / f"{self._rows[0].hash[:32]}.head"
            self.state = self.state or note
            self._notes.append(HeadNote(note))
            self._places.append(RunFolders(note.with_suffix(".runs")))

    def _compare(self) -> list[Head]:
        """What was noted and is not in the file, or was accepted as lost by a RESET row."""
        noted = [found for note in self._notes if (found := note.read())]
        seen = {found for place in self._places for found in place.seen()}
        self.refresh()  # a row that another process added before we read a note is in the file
        noted += [found.head for found in seen if not (found.coming and self.holds(found.coming))]
        lost = [head for head in noted if not self.holds(head)]
        if self.key.sealed and self._format < NEWEST:  # it had codes
            lost = lost or [(len(self._rows) - 1, self.head)]
        return sorted(set(lost))

    def holds(self, head: Head) -> bool:
        """Whether a noted row is in the chain, or was given up by a RESET row."""
        number, digest = head
        given_up = (reset.noted for reset in self.entries(Reset))
        return (number < len(self._rows) and self._rows[number].hash == digest) or any(
            digest in old for old in given_up
        )

    def watch(self, run_id: str, folder: Path) -> None:
        """From now on the run's rows are noted in its folder too."""
        self._folders[run_id] = RunNote(folder)

    def _make_tables(self) -> int:
        """The tables of an empty file; the format of what is there."""
        found = format_of(self.db)
        if found == 0:
            self.db.execute("BEGIN IMMEDIATE")
            found = format_of(self.db)  # another process may have been first
            if found == 0:
                make_tables(self.db, 0)
                found = NEWEST
            self.db.execute("COMMIT")
        if found is None:
            raise LedgerError(
                "this file is not a ledger of sfumato, or it was altered, or a newer sfumato made"
                " it: name another with --ledger"
            )
        return found

    def _upgrade(self) -> None:
        """Upgrades format 1: the rows stay as they were, and each gets a code under the key.

        Raises:
            LedgerError: Another process upgraded the ledger just now.
        """
        with self.transaction():
            if (now := format_of(self.db)) != self._format or now is None:
                raise LedgerError("another process upgraded the ledger just now: try again")
            make_tables(self.db, now)
            self.db.executemany(
                "INSERT INTO seal VALUES (?, ?, ?)",
                [(row.seq, self.key.mac(row.hash, ""), "") for row in self._rows],
            )
            before, self._format = self._format, NEWEST
            self.enter(Upgraded(format=NEWEST, before=before, rows=len(self._rows)))

    @property
    def old_rows(self) -> int:
        """How many rows were written in format 1, before rows had codes."""
        return next((upgrade.rows for upgrade in self.entries(Upgraded, "")), 0)

    @property
    def rows(self) -> list[Row]:
        """All rows known to this object, oldest first.

        `refresh` adds those that other processes wrote.
        """
        return self._rows

    @property
    def head(self) -> str:
        """Hash of the last row (64 zeros when empty)."""
        return self._rows[-1].hash if self._rows else GENESIS

    def of(self, kind: str, run_id: str | None = None) -> list[Row]:
        """Rows of one kind, of one run or of all, oldest first, as far as known."""
        if run_id is None:
            return list(self._by_kind.get(kind, ()))
        return [row for row in self.of_run(run_id) if row.kind == kind]

    def entries(self, sort: type[E], run_id: str | None = None) -> list[E]:
        """The entries of one sort, of one run or of all, oldest first, as far as known."""
        return [entry for _, entry in self.entered(sort, run_id)]

    def entered(self, sort: type[E], run_id: str | None = None) -> list[tuple[Row, E]]:
        """The same, each beside its row."""
        return [
            (row, sort.of_body(row.body))
            for row in self.of(sort.KIND, run_id)
            if sort.is_in(row.kind, row.body)
        ]

    def of_run(self, run_id: str) -> list[Row]:
        """All rows of one run, oldest first, as far as known."""
        return list(self._by_run.get(run_id, ()))

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self._by_kind.setdefault(row.kind, []).append(row)
        self._by_run.setdefault(row.run_id, []).append(row)

    def _forget(self, length: int) -> None:
        """Back to the first `length` rows."""
        while len(self._rows) > length:
            row = self._rows.pop()
            self._by_kind[row.kind].pop()
            self._by_run[row.run_id].pop()

    def refresh(self) -> None:
        """Read and verify rows that are new in the file.

        LedgerError names the first damaged one.
        """
        with in_words():
            for cells in self.db.execute(READ[self._format], [len(self._rows)]):
                self._add(whole_row(cells, len(self._rows), self.head, self.key, self._format))

    @contextlib.contextmanager
    def snapshot(self) -> Generator[None, None, None]:
        """All reading inside sees the file at one moment, whatever other processes write."""
        with in_words():
            self.db.execute("BEGIN")
            try:
                self.refresh()
                yield
            finally:
                self.db.execute("COMMIT")

    def read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """What a query of the record table finds."""
        with in_words():
            return self.db.execute(query, values).fetchall()

    def _say_unwitnessed(self) -> None:
        """Appends a RESET row if there were charges that nothing outside the folder knew of.

        Only charges since the last such row count.
        """
        said = [row.seq for row, reset in self.entered(Reset) if reset.unwitnessed]
        last = max(said, default=-1)
        if self._unwitnessed and any(row.seq > last for row in self.of(Charged.KIND)):
            self.enter(Reset(rows=len(self._rows), missing=None, noted=(), unwitnessed=True))

    @contextlib.contextmanager
    def transaction(self, *, resetting: bool = False) -> Generator[None, None, None]:
        """Yields with the write lock held: one writer at a time.

        What is appended inside is durable together on leaving, or, after an exception, not at all.
        """
        before = len(self._rows)
        try:
            with in_words():
                self.db.execute("BEGIN IMMEDIATE")
                self.refresh()
                before = len(self._rows)
                if not resetting:
                    self._say_unwitnessed()
                yield
                self._commit(before)
        except BaseException:
            self._forget(before)
            with contextlib.suppress(sqlite3.Error):
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            raise
        self._unwitnessed = False
        self._note()
        for row in self._rows[before:]:
            # its folder has its name by then
            if row.run_id in self._folders and row.kind != "PLAN":
                for place in self._places:
                    place.add(row.run_id, self._folders[row.run_id].folder)

    def _commit(self, before: int) -> None:
        """Run folders know of their rows before these are durable, and again after it."""
        runs = sorted({row.run_id for row in self._rows[before:]} & set(self._folders))
        if not runs:
            self.db.execute("COMMIT")
            return
        last, head = (
            (before - 1, self._rows[before - 1].hash if before else GENESIS),
            (
                len(self._rows) - 1,
                self.head,
            ),
        )
        with contextlib.ExitStack() as stack:
            for run in runs:
                stack.enter_context(self._folders[run].held())
                self._folders[run].announce(last, head)
            self.db.execute("COMMIT")
            for run in runs:
                self._folders[run].confirm(head)

    def enter(self, entry: Entry, run_id: str = "", attempt: int | None = None) -> Row:
        """`append` of a typed entry."""
        return self.append(entry.KIND, run_id, entry.to_body(), attempt)

    def append(
        self, kind: str, run_id: str, body: Mapping[str, Any], attempt: int | None = None
    ) -> Row:
        """Add one row; inside `transaction` only. ValueError for numbers that are not finite."""
        values: dict[str, Any] = {
            "seq": len(self._rows),
            "prev_hash": self.head,
            "kind": kind,
            "run_id": run_id,
            "attempt": attempt,
            "utc": "",
            "body": json.loads(canonical(body)),
        }
        written = datetime.now(UTC).isoformat(timespec="seconds")
        row = Row(**values, hash=hash_of(values), written=written)
        *cells, _ = {**asdict(row), "body": canonical(row.body)}.values()
        self.db.execute(
            "INSERT INTO seal VALUES (?, ?, ?)", [row.seq, self.key.mac(row.hash, written), written]
        )
        self.db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", cells)
        self._add(row)
        return row

    def _note(self) -> None:
        """A slower writer may put an older note over a newer one, which is no alarm."""
        self._find_state()
        for note in self._notes:
            note.write((len(self._rows) - 1, self.head))

    def close(self) -> None:
        """Close the file."""
        self.db.close()
