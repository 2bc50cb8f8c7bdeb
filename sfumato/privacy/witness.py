"""Notes of a ledger's newest row, kept outside its file: an older copy put back disagrees with every note that outlived it.

One lies beside the ledger, one in the user's state folder, one in each run folder. A note may lag behind the ledger (a crash), and never
leads it: it is written after the row is durable, or, in a run folder, before and after, so that the next row alone may be missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sfumato.privacy.faults import LedgerError, LedgerOutOfReach

Head = tuple[int, str]  # number and hash of a row
RUN_NOTE = "ledger.head"


def state_folder() -> Path | None:
    """$XDG_STATE_HOME/sfumato or ~/.local/state/sfumato, made when missing; None without a home folder that can be written."""
    try:
        place = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").absolute() / "sfumato"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return None
    return place if os.access(place, os.W_OK) else None


class HeadNote:
    """`number hash` of a ledger's newest row, in one small file."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> Head | None:
        """None where there is none, or where a power cut left it empty; LedgerError for what is no note."""
        try:
            text = self.path.read_bytes()
            if not text.strip(b"\0"):
                return None
            number, digest = text.decode("ascii").split()
            return int(number), digest
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LedgerError(f"{self.path} does not read: compare the ledger with a backup") from error

    def write(self, head: Head) -> None:
        """Whole or not at all, and not synced: the row itself is durable, and an older note is no alarm. Best effort."""
        with contextlib.suppress(OSError):
            _replace(self.path, f"{head[0]} {head[1]}\n", synced=False)


@dataclass(frozen=True)
class Seen:
    """What a run folder knows: the ledger's newest row when the run last wrote, and the row that was then about to be written."""

    head: Head
    coming: Head | None


class RunNote:
    """The note in a run folder, written around each of the run's rows under a lock of its own."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes the note or a row of this run meanwhile. LedgerOutOfReach if the folder does not take it."""
        try:
            gate = os.open(self.folder / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _disk(error) from error
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
        finally:
            os.close(gate)

    def read(self) -> Seen | None:
        """None in a folder of an older sfumato; LedgerError for what is no note."""
        try:
            text = (self.folder / RUN_NOTE).read_text("ascii")
            if not text.strip("\0"):
                return None
            (number, digest), coming = json.loads(text)
            return Seen((int(number), str(digest)), None if coming is None else (int(coming[0]), str(coming[1])))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(error) from error
        except (ValueError, LookupError, TypeError) as error:
            raise LedgerError(f"{RUN_NOTE} of the run does not read: put the run folder's own back") from error

    def announce(self, head: Head, coming: Head) -> None:
        """Before the row `coming` is committed after `head`; durable on return. LedgerOutOfReach if the disk does not take it."""
        try:
            _replace(self.folder / RUN_NOTE, json.dumps([head, coming]) + "\n", synced=True)
        except OSError as error:
            raise _disk(error) from error

    def confirm(self, head: Head) -> None:
        """The row is committed. Best effort: without it the folder knows the row as coming."""
        with contextlib.suppress(OSError):
            _replace(self.folder / RUN_NOTE, json.dumps([head, None]) + "\n", synced=True)


def _disk(error: OSError) -> LedgerOutOfReach:
    return LedgerOutOfReach(f"the run folder cannot be used ({error.strerror}): free space or set its permissions")


def _replace(path: Path, text: str, synced: bool) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    os.replace(part, path)
    if synced:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
