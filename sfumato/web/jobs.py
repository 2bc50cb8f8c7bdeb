"""Verbs in processes of their own: started, watched, asked to stop.

A job is a folder: what was asked, what was said, and how it ended. Nothing of it lives in this
process alone, so that jobs outlive the page and the studio that started them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .job import ASKED, ENDED

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")
PROCESS, OUT, SAID = "process.json", "stdout", "stderr"
INTERRUPTED = 75  # exit code of a run that stopped and can go on
MOST_SAID = 64_000  # bytes of what a verb said that are read, from the end
MOST_OUT = 16_000_000
PATIENCE = 3.0  # seconds that a job has to end
RUNNING, DONE, FAILED, PAUSED, CRASHED = "running", "done", "failed", "paused", "crashed"
_OWN: dict[int, subprocess.Popen[bytes]] = {}


class Busy(Exception):
    """Somebody, perhaps in another tab or studio, has started that already."""


@dataclass(frozen=True)
class Job:
    """One call of a verb.

    Attributes:
        folder: Where it lies.
        name: What it is for.
        number: Its place among those of that name, from 1.
        argv: The words after `sfumato`.
        started: Seconds since the epoch.
    """

    folder: Path
    name: str
    number: int
    argv: tuple[str, ...]
    started: float

    @property
    def command(self) -> str:
        """The same as one line of a shell."""
        return shell(self.argv)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, and where it was killed."""
        try:
            return int((self.folder / ENDED).read_text("ascii"))
        except (OSError, ValueError):
            return None

    @property
    def state(self) -> str:
        """One of the five words above."""
        code = self.code
        if code is None and self._alive():
            return RUNNING
        code = self.code  # it may have ended between the two
        if code is None:
            return CRASHED
        return DONE if code == 0 else PAUSED if code == INTERRUPTED else FAILED

    def _alive(self) -> bool:
        try:
            known = json.loads((self.folder / PROCESS).read_text("ascii"))
            process = psutil.Process(known["pid"])
            if (own := _OWN.get(process.pid)) is not None and own.poll() is not None:
                del _OWN[process.pid]
                return False
            same = abs(process.create_time() - known["since"]) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.Error):
            # between the folder and the process
            return time.time() - self.started < 5 and not (self.folder / PROCESS).exists()

    def said(self) -> list[str]:
        """Lines that it wrote on its way, oldest first."""
        return _tail(self.folder / SAID, MOST_SAID).splitlines()

    def line(self) -> str:
        """The last of them that is no note."""
        rest = [one for one in self.said() if one.strip() and not one.startswith("note: ")]
        return rest[-1] if rest else ""

    def out(self) -> str:
        """What it printed."""
        return _tail(self.folder / OUT, MOST_OUT)

    def facts(self) -> Any:
        """What it printed, as JSON; None where it is none."""
        try:
            return json.loads(self.out()) if self.state == DONE else None
        except ValueError:
            return None

    def error(self) -> str:
        """Its last line on the error output: what is wrong, and the cure."""
        state = self.state
        if state == CRASHED:
            return "it ended without a word: the machine was restarted, or memory ran out"
        if state not in (FAILED, PAUSED):
            return ""
        return self.line().removeprefix("sfumato: ")

    def stop(self) -> None:
        """Asks it to stop; a run does at its next step, with a checkpoint."""
        if self.state != RUNNING:
            return
        try:
            known = json.loads((self.folder / PROCESS).read_text("ascii"))
            psutil.Process(known["pid"]).terminate()
        except (OSError, ValueError, KeyError, psutil.Error):
            return


def shell(argv: Sequence[str]) -> str:
    """The command line as somebody would type it."""
    return "sfumato " + shlex.join(argv)


def jobs_of(project: Path, name: str) -> list[Job]:
    """All jobs of that name, oldest first."""
    found: list[Job] = []
    for folder in (project / "jobs").glob(f"{name}-*"):
        number = folder.name[len(name) + 1 :]
        if number.isdecimal():
            try:
                asked = json.loads((folder / ASKED).read_text("utf-8"))
                found.append(
                    Job(folder, name, int(number), tuple(asked["argv"]), float(asked["started"]))
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue  # another studio is about to write it
    return sorted(found, key=lambda job: job.number)


def latest(project: Path, name: str) -> Job | None:
    """The newest job of that name; None without one."""
    found = jobs_of(project, name)
    return found[-1] if found else None


def current(project: Path, name: str, argv: Sequence[str]) -> Job | None:
    """The newest job of that name, if it was asked just this: else the answers have changed."""
    found = latest(project, name)
    return found if found is not None and list(found.argv) == list(argv) else None


def latest_on(project: Path, name: str, place: Path) -> Job | None:
    """The newest job of that name on a folder: what it said of another one is of no use here."""
    found = [job for job in jobs_of(project, name) if list(job.argv[1:2]) == [str(place)]]
    return found[-1] if found else None


def start(project: Path, name: str, argv: Sequence[str]) -> Job:
    """Starts a verb in the project's folder.

    Args:
        project: The folder.
        name: What it is for.
        argv: The words after `sfumato`.

    Returns:
        The job.

    Raises:
        Busy: One of that name still runs, or another tab or studio was quicker.
        ValueError: The name is none.
    """
    if not NAME.fullmatch(name):
        raise ValueError(name)
    before = latest(project, name)
    if before is not None and before.state == RUNNING:
        raise Busy(name)
    number = 1 if before is None else before.number + 1
    folder = project / "jobs" / f"{name}-{number}"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)  # of two writers one makes it
    except FileExistsError:
        raise Busy(name) from None
    started = time.time()
    _write(folder / ASKED, {"argv": list(argv), "started": started})
    with _new(folder / OUT) as out, _new(folder / SAID) as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "sfumato.web.job", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            cwd=project,
            start_new_session=True,  # it outlives the studio, and Ctrl-C is not for it
        )
    _OWN[process.pid] = process
    try:
        since = psutil.Process(process.pid).create_time()
    except psutil.Error:
        since = started
    _write(folder / PROCESS, {"pid": process.pid, "since": since})
    return Job(folder, name, number, tuple(argv), started)


def instead(project: Path, name: str, argv: Sequence[str]) -> Job:
    """The same as `start`; one of that name that still runs is ended first, for it spends nothing.

    Raises:
        Busy: It does not end, or another tab or studio was quicker.
    """
    before = latest(project, name)
    if before is not None and before.state == RUNNING:
        before.stop()
        until = time.monotonic() + PATIENCE
        while before.state == RUNNING and time.monotonic() < until:
            time.sleep(0.05)
    return start(project, name, argv)


def _new(path: Path) -> Any:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write(path: Path, body: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    with _new(part) as stream:
        stream.write(json.dumps(body).encode())
    os.replace(part, path)


def _tail(path: Path, most: int) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - most))
            return stream.read(most).decode("utf-8", "replace")
    except OSError:
        return ""
