"""A hash-chained, append-only table of rows in one SQLite file: a row is durable before the call
returns, and damage is seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sfumato.privacy.ledger.faults import LedgerError, OlderCopy, in_words
from sfumato.privacy.ledger.formats import NEWEST, format_of, make_tables
from sfumato.privacy.ledger.secret import LedgerKey, mark_sealed
from sfumato.privacy.ledger.witness import Head, HeadNote, RunFolders, RunNote, state_folders

GENESIS = "0" * 64
WAIT = 60.0  # seconds that a writer waits for the writers before it
_COLUMNS = "seq, prev_hash, kind, run_id, attempt, utc, body, hash"
_READ = {
    1: f"SELECT {_COLUMNS}, NULL, '' FROM entry WHERE seq >= ? ORDER BY seq",
    2: (
        f"SELECT {_COLUMNS}, mac, written FROM entry LEFT JOIN seal USING (seq) WHERE seq >= ?"
        " ORDER BY seq"
    ),
}
_NETWORK = ("nfs", "cifs", "smb", "afs", "fuse.sshfs")


@dataclass(frozen=True)
class Row:
    """One entry. `hash` is SHA-256 over the canonical JSON of the fields before it; `seq` decides
    the order.

    `written` is the time (UTC), in the ledger alone: the time of a row of a run follows the sizes
    of drawn batches. `utc` is empty, but in rows of format 1.
    """

    seq: int
    prev_hash: str
    kind: str
    run_id: str
    attempt: int | None
    utc: str
    body: dict
    hash: str
    written: str = ""


def canonical(value: object) -> str:
    """The one JSON text of a value; ValueError for what is not finite or not JSON."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "a ledger row holds finite numbers, text and lists only: remove what is not JSON"
        ) from error


def hash_of(row: Mapping) -> str:
    """SHA-256, hex, over the canonical JSON of a row without its `hash` and `written`."""
    covered = {k: v for k, v in row.items() if k not in ("hash", "written")}
    return hashlib.sha256(canonical(covered).encode("ascii")).hexdigest()


class Chain:
    """The file at `path`, made when missing (mode 0600), its whole chain and the codes of all rows
    verified when opened.

    A file of an older format is brought to the newest, with a row that says so. Notes of the newest
    row lie beside the file (`path`.head) and in state folders, if there are any (`witness`), with
    the places of run folders, whose notes are asked too: an older copy put back, a copy without its
    -wal file, and one of two copies that both went on are refused, unless `restored`; `lost` then
    lists the (number, hash) that were noted. Where charges were made and no state folder knows of
    them, the next transaction leaves a RESET row that says so. Raises LedgerError.
    """

    def __init__(self, path: str | os.PathLike, key: LedgerKey, *, restored: bool = False):
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
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
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
        """The notes in the state folders bear the name of the first row: copies of a ledger share
        them, wherever they lie.
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
        given_up = (row.body["noted"] for row in self.of("RESET"))
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
        """From format 1: the rows are as they were, and from now on each has a code under
        the key.
        """
        with self.transaction():
            if (now := format_of(self.db)) != self._format:
                raise LedgerError("another process upgraded the ledger just now: try again")
            make_tables(self.db, now)
            self.db.executemany(
                "INSERT INTO seal VALUES (?, ?, ?)",
                [(row.seq, self.key.mac(row.hash, ""), "") for row in self._rows],
            )
            before, self._format = self._format, NEWEST
            self.append("NOTE", "", {"format": NEWEST, "before": before, "rows": len(self._rows)})

    @property
    def old_rows(self) -> int:
        """How many rows were written in format 1, before rows had codes."""
        return next((row.body["rows"] for row in self.of("NOTE", "") if "before" in row.body), 0)

    @property
    def rows(self) -> list[Row]:
        """All rows known to this object, oldest first; `refresh` adds what other processes
        wrote.
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
        """Read and verify rows that are new in the file. LedgerError names the first
        damaged one.
        """
        with in_words():
            # Typed by hand: SQLite would hand out a damaged cell as whatever it now looks like.
            for *row, mac, written in self.db.execute(_READ[self._format], [len(self._rows)]):
                number = len(self._rows)
                try:
                    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
                    values["body"] = json.loads(values["body"])
                    whole = (values["seq"], values["prev_hash"], values["hash"]) == (
                        number,
                        self.head,
                        hash_of(values),
                    )
                    whole = (
                        whole
                        and isinstance(values["body"], dict)
                        and canonical(values["body"]) == row[6]
                    )
                except (TypeError, ValueError, RecursionError):
                    whole = False
                if not whole:
                    raise LedgerError(
                        f"the ledger is damaged at row {number}: put the newest whole copy back"
                    )
                if number == 0 and values["body"].get("key") != self.key.id:
                    raise LedgerError(
                        "the ledger's key is not the one that it was made with: put ledger and key"
                        " back together"
                    )
                if self._format > 1 and not _same(mac, self.key.mac(values["hash"], str(written))):
                    raise LedgerError(
                        f"row {number} of the ledger was not written under its key: put the newest"
                        " whole copy back"
                    )
                self._add(Row(**values, written=written))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reading inside sees the file at one moment, whatever other processes write."""
        with in_words():
            self.db.execute("BEGIN")
            try:
                self.refresh()
                yield
            finally:
                self.db.execute("COMMIT")

    def read(self, query: str, values: Sequence) -> list[tuple]:
        """What a query of the record table finds."""
        with in_words():
            return self.db.execute(query, values).fetchall()

    def _say_unwitnessed(self) -> None:
        """A RESET row where charges were made since the last such row, and nothing outside the
        ledger's folder knew of them.
        """
        last = max((row.seq for row in self.of("RESET") if row.body.get("unwitnessed")), default=-1)
        if self._unwitnessed and any(row.seq > last for row in self.of("CHARGE")):
            self.append(
                "RESET",
                "",
                {"rows": len(self._rows), "missing": None, "noted": [], "unwitnessed": True},
            )

    @contextlib.contextmanager
    def transaction(self, *, resetting: bool = False) -> Iterator[None]:
        """One writer at a time; what is appended inside is durable together on leaving, or, after
        an exception, not at all.
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

    def append(self, kind: str, run_id: str, body: Mapping, attempt: int | None = None) -> Row:
        """Add one row; inside `transaction` only. ValueError for numbers that are not finite."""
        values = {
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


def _same(found: object, mac: bytes) -> bool:
    return isinstance(found, bytes) and hmac.compare_digest(found, mac)
