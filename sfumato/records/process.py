"""The other end of the pipes to a decoder's process: starting it, asking it, seeing why it died."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from ..errors import MachineError
from . import limits
from .watch import Watch
from .worker import HEAD, READY, SIZE

# Without SYSTEMROOT no process starts on Windows.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_START = (
    "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); from sfumato.records.worker import"
    " main; main()"
)


class Died(Exception):
    """The process ended over a request.

    `rule` is what it broke, None if something else killed it.
    """

    def __init__(self, rule: str | None):
        super().__init__(rule)
        self.rule = rule


class Process:
    """The other end of the pipes. One thread at a time."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.watch: Watch | None = None

    def send(self, kind: int, data: bytes, seconds: float) -> None:
        """Ask it; it has so many seconds of processor time."""
        if self.child is None:
            self._start()
        assert self.child is not None and self.child.stdin is not None
        if not limits.kept_inside():
            self.watch = Watch(self.child, seconds)
        try:
            for part in (HEAD.pack(kind, seconds, len(data)) + data[:4096], data[4096:]):
                view = memoryview(part)
                while view:
                    view = view[os.write(self.child.stdin.fileno(), view) :]
        except OSError as error:
            # A pipe without a reader, as POSIX and Windows say it; `receive` will tell why.
            if error.errno not in (errno.EPIPE, errno.EINVAL):
                raise

    def receive(self) -> bytes:
        """Its answer to the oldest request; Died if there is none."""
        head = self._read(SIZE.size)
        answer = self._read(SIZE.unpack(head)[0]) if len(head) == SIZE.size else None
        rule = self._unwatch()
        if rule or answer is None or len(answer) != SIZE.unpack(head)[0]:
            assert self.child is not None
            rule = rule or limits.broken_rule(self.child.wait())
            self.stop()
            raise Died(rule)
        return answer

    def _unwatch(self) -> str | None:
        watch, self.watch = self.watch, None
        return watch.stop() if watch else None

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        # A virtual environment's python.exe only starts another, which nobody would watch.
        inner: str = getattr(sys, "_base_executable", sys.executable)
        python = inner if sys.platform == "win32" else sys.executable
        command = [python, "-I", "-B", "-c", _START, json.dumps([root, *sys.path])]
        environment = {
            name: os.environ[name] for name in _KEPT if name in os.environ
        } | _ENVIRONMENT
        try:
            self.child = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what C libraries say of a file is about private data
                env=environment,
                # Ctrl-C is for us: a run that stops at a step boundary still reads pictures
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            greeting = self._read(len(READY))
        except OSError as error:
            raise MachineError(
                f"cannot start a process to decode images ({error.strerror})"
            ) from error
        if greeting != READY:
            self.stop()
            raise MachineError(
                "the process that decodes images does not start: reinstall sfumato and Pillow"
            )

    def _read(self, size: int) -> bytes:
        assert self.child is not None and self.child.stdout is not None
        found = b""
        while len(found) < size and (
            part := os.read(self.child.stdout.fileno(), size - len(found))
        ):
            found += part
        return found

    def stop(self) -> None:
        """End the process; the next request starts another."""
        self._unwatch()
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            for pipe in (self.child.stdin, self.child.stdout):
                if pipe is not None:
                    pipe.close()
            self.child = None
