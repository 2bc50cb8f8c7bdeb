"""A hash-chained, append-only table of rows in one SQLite file: a row is durable before the call returns, and damage is seen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

GENESIS = "0" * 64
WAIT = 60.0  # seconds that a writer waits for the writers before it
_SCHEMA = (
    "CREATE TABLE entry (seq INTEGER PRIMARY KEY, prev_hash TEXT NOT NULL, kind TEXT NOT NULL, run_id TEXT NOT NULL, "
    "attempt INTEGER, utc TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE record (hmac BLOB NOT NULL, copies INTEGER NOT NULL, dataset TEXT NOT NULL, "
    "PRIMARY KEY (hmac, dataset)) WITHOUT ROWID",
    "CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER entry_fixed BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'append-only'); END",
)
_COLUMNS = "seq, prev_hash, kind, run_id, attempt, utc, body, hash"
_NETWORK = ("nfs", "cifs", "smb", "afs", "fuse.sshfs")


class LedgerError(ValueError):
    """A ledger that is damaged, out of date, busy or not writable; one line with the cure."""


class LedgerOutOfReach(LedgerError):
    """The disk, its permissions or another process stand in the way; the rows themselves may be whole."""


@dataclass(frozen=True)
class Row:
    """One entry. `hash` is SHA-256 over the canonical JSON of all other fields; `seq` decides the order, `utc` is a comment."""

    seq: int
    prev_hash: str
    kind: str
    run_id: str
    attempt: int | None
    utc: str
    body: dict
    hash: str


def canonical(value: object) -> str:
    """The one JSON text of a value; ValueError for what is not finite or not JSON."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError("a ledger row holds finite numbers, text and lists only: remove what is not JSON") from error


def hash_of(row: Mapping) -> str:
    """SHA-256, hex, over the canonical JSON of a row without its `hash`."""
    return hashlib.sha256(canonical({k: v for k, v in row.items() if k != "hash"}).encode("ascii")).hexdigest()


class Chain:
    """The file at `path`, made when missing (mode 0600), its whole chain verified when opened.

    `path`.head notes the newest row beside the file, so that an older copy put back (or a copy without its -wal file) is
    refused, unless `restored`; `lost` is then the (number, hash) of the newest row that was noted. Raises LedgerError.
    """

    def __init__(self, path: str | os.PathLike, *, restored: bool = False):
        self.path = Path(path)
        _refuse_network(self.path)
        self._witness = self.path.with_name(self.path.name + ".head")
        self._rows: list[Row] = []
        self._by_kind: dict[str, list[Row]] = {}
        self._by_run: dict[str, list[Row]] = {}
        with _errors():
            # Read first: a row that another process adds meanwhile makes the file newer than the note, never older.
            noted = self._noted()
            fresh = not self.path.exists()
            if fresh and noted:
                raise LedgerError(f"the ledger {self.path} is gone: put it back, with the files beside it")
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self.db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            if self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                raise LedgerError("the ledger's disk has no working locks: keep it on a local disk (--ledger)")
            self.db.execute("PRAGMA synchronous=FULL")
            self._make_tables()
            self.refresh()
            older = noted and (noted[0] >= len(self._rows) or self._rows[noted[0]].hash != noted[1])
            self.lost = noted if older else None
            if older and not restored:
                raise LedgerError(
                    "the ledger is an older copy, or not the one that was last written here: put the newest back, or, if it is "
                    "gone, accept this one with `sfumato ledger reset`, which every later certificate shows"
                )

    def _make_tables(self) -> None:
        found = [text for (text,) in self.db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")]
        if not found:
            self.db.execute("BEGIN IMMEDIATE")
            if not self.db.execute("SELECT 1 FROM sqlite_schema").fetchone():  # another process may have been first
                for text in _SCHEMA:
                    self.db.execute(text)
            self.db.execute("COMMIT")
        elif sorted(found) != sorted(_SCHEMA):
            raise LedgerError("this file is not a ledger of sfumato, or it was altered: name another with --ledger")

    @property
    def rows(self) -> list[Row]:
        """All rows known to this object, oldest first; `refresh` adds what other processes wrote."""
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
        """Read and verify rows that are new in the file. LedgerError names the first damaged one."""
        with _errors():
            # Typed by hand: SQLite would hand out a damaged cell as whatever it now looks like.
            for row in self.db.execute(f"SELECT {_COLUMNS} FROM entry WHERE seq >= ? ORDER BY seq", [len(self._rows)]):
                number = len(self._rows)
                try:
                    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
                    values["body"] = json.loads(values["body"])
                    whole = (values["seq"], values["prev_hash"], values["hash"]) == (number, self.head, hash_of(values))
                    whole = whole and isinstance(values["body"], dict) and canonical(values["body"]) == row[6]
                except (TypeError, ValueError, RecursionError):
                    whole = False
                if not whole:
                    raise LedgerError(f"the ledger is damaged at row {number}: put the newest whole copy back")
                self._add(Row(**values))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reading inside sees the file at one moment, whatever other processes write."""
        with _errors():
            self.db.execute("BEGIN")
            try:
                self.refresh()
                yield
            finally:
                self.db.execute("COMMIT")

    def read(self, query: str, values: Sequence) -> list[tuple]:
        """What a query of the record table finds."""
        with _errors():
            return self.db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One writer at a time; what is appended inside is durable together on leaving, or, after an exception, not at all."""
        before = len(self._rows)
        try:
            with _errors():
                self.db.execute("BEGIN IMMEDIATE")
                self.refresh()
                before = len(self._rows)
                yield
                self.db.execute("COMMIT")
        except BaseException:
            self._forget(before)
            with contextlib.suppress(sqlite3.Error):
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            raise
        self._note()

    def append(self, kind: str, run_id: str, body: Mapping, attempt: int | None = None) -> Row:
        """Add one row; inside `transaction` only. ValueError for numbers that are not finite."""
        values = {
            "seq": len(self._rows),
            "prev_hash": self.head,
            "kind": kind,
            "run_id": run_id,
            "attempt": attempt,
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "body": json.loads(canonical(body)),
        }
        row = Row(**values, hash=hash_of(values))
        cells = {**asdict(row), "body": canonical(row.body)}
        self.db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(cells.values()))
        self._add(row)
        return row

    def _noted(self) -> tuple[int, str] | None:
        try:
            number, digest = self._witness.read_text("ascii").split()
            return int(number), digest
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LedgerError(f"{self._witness} does not read: compare the ledger with a backup") from error

    def _note(self) -> None:
        """Not synced: after a power cut an older note stands there, which is no alarm. Best effort, for the row itself is durable."""
        part = self._witness.with_name(f"{self._witness.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(handle, f"{len(self._rows) - 1} {self.head}\n".encode("ascii"))
            finally:
                os.close(handle)
            # Whole or not at all; a slower writer may put an older one there, which is no alarm.
            os.replace(part, self._witness)

    def close(self) -> None:
        """Close the file."""
        self.db.close()


def fresh_key() -> bytes:
    """32 bytes of the operating system."""
    return os.urandom(32)


def load_key(path: Path) -> bytes:
    """The 32 secret bytes in `path`.key, made on first use. LedgerError if missing beside a ledger, damaged or open to others."""
    place = path.with_name(path.name + ".key")
    damaged = "the ledger's key is damaged: put it back beside the ledger"
    with _errors():
        if not place.exists() and not path.exists():
            part = place.with_name(place.name + ".part")
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(fresh_key().hex().encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(part, place)
        if not place.exists():
            raise LedgerError(
                "the ledger's key is gone, so no image would be recognised: put it back beside the ledger"
            )
        if stat.S_IMODE(place.stat().st_mode) & 0o077:
            raise LedgerError("the ledger's key is readable by other users: set its mode to 0600 (chmod 600)")
        text = place.read_bytes()
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError as error:
        raise LedgerError(damaged) from error
    if len(key) != 32:
        raise LedgerError(damaged)
    return key


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """SQLite's and the system's errors as LedgerError, without paths or values."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError):
            cure = "free space or wait for other runs, then try again"
            raise LedgerOutOfReach(f"the ledger cannot be used ({_line(error)}): {cure}") from error
        raise LedgerError(f"the ledger cannot be used ({_line(error)}): put the newest whole copy back") from error
    except OSError as error:
        raise LedgerOutOfReach(
            f"the ledger cannot be used ({error.strerror}): name another place with --ledger or SFUMATO_LEDGER"
        ) from error


def _line(error: sqlite3.Error) -> str:
    return " ".join(str(error).split())[:120]  # of a damaged file it may quote a part


def _refuse_network(path: Path) -> None:
    """LedgerError where the file would lie on a network file system, whose locks do not hold between machines."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()]
    except OSError:  # not Linux: SQLite's own locks must do
        return
    place = str(path.parent.resolve())
    holding = [m for m in mounts if place == m[0] or place.startswith(m[0].rstrip("/") + "/")]
    kind = max(holding, key=lambda m: len(m[0]), default=("", ""))[1]
    if kind.startswith(_NETWORK):
        raise LedgerError(f"the ledger cannot lie on a network file system ({kind}): name a local disk with --ledger")
