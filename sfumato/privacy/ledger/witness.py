"""Notes of a ledger's newest row, kept outside its file.

An older copy put back disagrees with every note that outlived it. One note is beside the ledger,
one in the user's state folder and one in that of the account (which $HOME does not move), one in
each run folder; the state folders also list the run folders, so that a ledger put back is compared
with their notes. A note may lag behind the ledger (a crash), and never leads it: it is written
after the row is durable, or, in a run folder, before and after, so that only the next row may be
missing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from sfumato.privacy.files import BINARY, listed_home, lock, sync_folder
from sfumato.privacy.ledger.faults import LedgerError, LedgerOutOfReach

Head = tuple[int, str]  # number and hash of a row
RUN_NOTE = "ledger.head"
ACCOUNT_HOME = "SFUMATO_ACCOUNT_HOME"  # for tests, which leave the home of whoever runs them alone


def state_folder() -> Path | None:
    """Returns $XDG_STATE_HOME/sfumato or ~/.local/state/sfumato, made when missing.

    None without a home folder that can be written.
    """
    try:
        return _made(
            Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").absolute()
            / "sfumato"
        )
    except RuntimeError:
        return None


def account_home() -> Path | None:
    """Returns the home folder that the system's list of accounts has for this process.

    $HOME is not asked. None if the folder does not exist.
    """
    home = Path(os.environ[ACCOUNT_HOME]) if os.environ.get(ACCOUNT_HOME) else listed_home()
    return home if home and home.is_absolute() and home.is_dir() else None


def state_folders() -> list[Path]:
    """Returns the folders of notes away from the ledger, each once, made when missing.

    One by the environment, and one by the account.
    """
    home = account_home()
    places = [state_folder(), home and _made(home / ".local" / "state" / "sfumato")]
    return list({place.resolve(): place for place in places if place}.values())


def _made(place: Path) -> Path | None:
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return place if os.access(place, os.W_OK) else None


class HeadNote:
    """`number hash` of a ledger's newest row, in one small file."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> Head | None:
        """Returns the note, or None if there is none or a power cut left it empty.

        Raises:
            LedgerError: The file is no note.
        """
        try:
            text = self.path.read_bytes()
            if not text.strip(b"\0"):
                return None
            number, digest = text.decode("ascii").split()
            return int(number), digest
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LedgerError(
                f"{self.path} does not read: compare the ledger with a backup"
            ) from error

    def write(self, head: Head) -> None:
        """Writes the note, whole or not at all; best effort, and not synced.

        The row itself is durable, and an older note raises no alarm.
        """
        with contextlib.suppress(OSError):
            _replace(self.path, f"{head[0]} {head[1]}\n", synced=False)


class RunFolders:
    """Where the runs of a ledger are, a line each beside its note in a state folder.

    Best effort, like the note.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[tuple[str, str]]:
        """(run, folder) of each line that reads."""
        found: list[tuple[str, str]] = []
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in self.path.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):
                    run, folder = json.loads(line)
                    found.append((str(run), str(folder)))
        return list(dict.fromkeys(found))

    def add(self, run_id: str, folder: Path) -> None:
        """Remember where a run is."""
        entry = run_id, str(folder.absolute())
        if entry not in self.read():
            with contextlib.suppress(OSError, UnicodeEncodeError):
                with open(
                    os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | BINARY, 0o600),
                    "a",
                    encoding="utf-8",
                ) as file:
                    file.write(json.dumps(entry) + "\n")

    def seen(self) -> list[Seen]:
        """What the folders know that are still there and still hold their run."""
        found: list[Seen] = []
        for run_id, folder in self.read():
            # a damaged folder is refused when its run is opened
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                if json.loads((Path(folder) / "run.json").read_text("utf-8"))["id"] == run_id and (
                    known := RunNote(Path(folder)).read()
                ):
                    found.append(known)
        return found


@dataclass(frozen=True)
class Seen:
    """What a run folder knows: the ledger's newest row, and the row about to be written then."""

    head: Head
    coming: Head | None


class RunNote:
    """The note in a run folder, written around each of the run's rows under a lock of its own."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextlib.contextmanager
    def held(self) -> Generator[None, None, None]:
        """Yields while nobody else writes the note or the run's rows; LedgerOutOfReach at worst."""
        try:
            gate = os.open(self.folder / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _disk(error) from error
        try:
            lock(gate)
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
            return Seen(
                (int(number), str(digest)),
                None if coming is None else (int(coming[0]), str(coming[1])),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk(error) from error
        except (ValueError, LookupError, TypeError) as error:
            raise LedgerError(
                f"{RUN_NOTE} of the run does not read: put the run folder's own back"
            ) from error

    def announce(self, head: Head, coming: Head) -> None:
        """Notes that `coming` is about to follow `head`, durably, or raises LedgerOutOfReach."""
        try:
            _replace(self.folder / RUN_NOTE, json.dumps([head, coming]) + "\n", synced=True)
        except OSError as error:
            raise _disk(error) from error

    def confirm(self, head: Head) -> None:
        """The row is committed. Best effort: without it the folder knows the row as coming."""
        with contextlib.suppress(OSError):
            _replace(self.folder / RUN_NOTE, json.dumps([head, None]) + "\n", synced=True)


def _disk(error: OSError) -> LedgerOutOfReach:
    return LedgerOutOfReach(
        f"the run folder cannot be used ({error.strerror}): free space or set its permissions"
    )


def _replace(path: Path, text: str, synced: bool) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(
        os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(text)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    os.replace(part, path)
    if synced:
        sync_folder(path.parent)
