"""The run's ledger: append-only rows chained by SHA-256, each durable before the run goes on; what is charged stays charged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

KINDS = ("PLAN", "CHARGE", "ATTEMPT", "PROBE", "REPLAY", "RELEASE", "NOTE")
_NEEDS = {"CHARGE": "PLAN", "ATTEMPT": "CHARGE", "PROBE": "ATTEMPT", "REPLAY": "ATTEMPT", "RELEASE": "ATTEMPT"}
_GENESIS = "0" * 64
_FIELDS = {"seq", "prev_hash", "kind", "utc", "body", "hash"}


def _canonical(value: Mapping) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError("a ledger row holds finite numbers, text and lists only: remove what is not JSON") from error


def _hash(row: Mapping) -> str:
    return hashlib.sha256(_canonical({name: row[name] for name in row if name != "hash"}).encode("ascii")).hexdigest()


def _parse(data: bytes) -> list[dict]:
    """Every row of the file, verified: canonical bytes, numbering, chain, order of kinds. ValueError names the first fault."""
    if data and not data.endswith(b"\n"):
        raise ValueError(
            "the ledger's last line is incomplete (a crash while writing): nothing was done on its strength, "
            "so delete that one line and resume"
        )
    rows, head, seen = [], _GENESIS, {None}
    for number, line in enumerate(data.split(b"\n")[:-1]):
        damaged = f"the ledger is damaged at row {number}: restore the run folder as it was, or start a new run"
        try:
            row = json.loads(line)
            sound = (
                isinstance(row, dict)
                and set(row) == _FIELDS
                and _canonical(row).encode("ascii") == line
                and (row["seq"], row["prev_hash"], row["hash"]) == (number, head, _hash(row))
                and row["kind"] in KINDS
                and isinstance(row["body"], dict)
                and _NEEDS.get(row["kind"]) in seen
            )
        except (ValueError, TypeError) as error:
            raise ValueError(damaged) from error
        if not sound:
            raise ValueError(damaged)
        rows.append(row)
        head = row["hash"]
        seen.add(row["kind"])
    return rows


class RunLedger:
    """The ledger file of one run: JSON lines {seq, prev_hash, kind, utc, body, hash}, hash over the canonical form of the rest.

    Opening verifies the whole chain. Order: PLAN, CHARGE (the whole planned run, before any private read), ATTEMPT, then PROBE
    (noisy scores, once), RELEASE and REPLAY; NOTE anywhere. There are no refunds. `head` belongs in the certificate: it shows
    rows deleted or restored later. Rows carry no private values. Raises ValueError for a damaged or torn file (`cut_torn_line` is
    the cure for the latter).
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._handle: int | None = None
        self._rows = _parse(self._read())

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ValueError(f"the ledger cannot be read ({error.strerror}): check the run folder") from error

    @property
    def rows(self) -> tuple[dict, ...]:
        """All rows, oldest first."""
        return tuple(self._rows)

    @property
    def head(self) -> str:
        """Hash of the last row (64 zeros when empty)."""
        return self._rows[-1]["hash"] if self._rows else _GENESIS

    def bodies(self, kind: str) -> list[dict]:
        """The bodies of all rows of one kind, oldest first."""
        return [row["body"] for row in self._rows if row["kind"] == kind]

    @property
    def attempts(self) -> int:
        """Starts so far; the next attempt's number."""
        return len(self.bodies("ATTEMPT"))

    def charged_events(self) -> list[dict]:
        """The events of all CHARGE rows, concatenated, in the JSON form of `events.to_json`."""
        return [event for body in self.bodies("CHARGE") for event in body["events"]]

    def require_charge(self) -> None:
        """To be called before private data are read for training. ValueError if nothing has been charged."""
        if not self.charged_events():
            raise ValueError("nothing is charged yet: write the PLAN and CHARGE rows before private data are read")

    @contextlib.contextmanager
    def lock(self) -> Iterator[RunLedger]:
        """Hold the ledger alone while a run is active. ValueError if another process (or object) holds it."""
        if self._handle is not None:
            yield self
            return
        try:
            import fcntl
        except ImportError as error:
            raise ValueError("the ledger needs POSIX file locks: run on Linux or macOS") from error
        try:
            fresh = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ValueError(f"the ledger cannot be opened ({error.strerror}): check the run folder") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError("another process is using this run folder: wait for it or stop it first") from error
            if fresh:
                _sync_folder(self.path.parent)
            self._handle = handle
            self._rows = _parse(self._read())  # another process may have written since we opened
            yield self
        finally:
            self._handle = None
            os.close(handle)

    def append(self, kind: str, body: Mapping) -> dict:
        """Write one row and return it once it is durable (fsync). A CHARGE needs {"events": [...]} with at least one event.

        Raises ValueError for an unknown kind, a row out of order, numbers that are not finite, or a disk that cannot take it; the
        file is then as before.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown ledger row: use one of {', '.join(KINDS)}")
        events = body.get("events")
        if kind == "CHARGE" and not (isinstance(events, list) and events and all(isinstance(e, dict) for e in events)):
            raise ValueError("a CHARGE row lists its events: give events.to_json(plan.events)")
        with self.lock():
            need = _NEEDS.get(kind)
            if need and not self.bodies(need):
                raise ValueError(f"a {kind} row needs a {need} row before it: charge first, then read, then release")
            row = {
                "seq": len(self._rows),
                "prev_hash": self.head,
                "kind": kind,
                "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # a comment; seq decides the order
                "body": json.loads(_canonical(body)),
            }
            row["hash"] = _hash(row)
            self._write((_canonical(row) + "\n").encode("ascii"))
            self._rows.append(row)
            return row

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._handle).st_size
        try:
            done = 0
            while done < len(data):
                done += os.write(self._handle, data[done:])
            os.fsync(self._handle)
        except OSError as error:
            with contextlib.suppress(OSError):  # best effort: a line left torn is refused at the next opening
                os.ftruncate(self._handle, size)
            raise ValueError(f"the ledger could not be written ({error.strerror}): free space, then resume") from error

    @classmethod
    def cut_torn_line(cls, path: str | os.PathLike) -> RunLedger:
        """Remove an incomplete last line (no step waits for a row that is not yet durable), note it, and open the ledger."""
        path = Path(path)
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        _parse(whole)
        if whole != data:
            with open(path, "r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        ledger = cls(path)
        if whole != data:
            ledger.append("NOTE", {"note": "an incomplete last line was cut"})
        return ledger


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
