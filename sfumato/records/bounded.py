"""Files from anyone, read in a bounded way: a separate process decodes them, and may die.

Time and memory are fixed rules on one file alone, so they change no other record: the decision
stays 1-stable.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MachineError
from ..options import FIXED, Values
from ..options.progress import tell
from . import limits
from .decode import BadImage
from .levels import STORED
from .limits import CRASHED, MEMORY
from .pictures import PLAIN
from .watch import Watch
from .worker import (
    FETCH,
    FOUND,
    GIVEN,
    HEAD,
    HEADER,
    LIST,
    PARQUET,
    PICTURE,
    PIXELS,
    READY,
    REFUSED,
    SHAPE,
    SIZE,
    TABLE,
    TAGS,
    TOO_MUCH,
    WHOLE,
    Box,
    request,
)

SECONDS = 8.0  # of processor time for one picture
# for one that was indexed within SECONDS: whether it is there must not hang on the machine's mood
HANDING_OVER = 4 * SECONDS
PIPE = 48 * 2**10  # bytes of answers that fit into a pipe
BYTES_PER_SECOND = 2 * 2**20  # slowest table that is waited for: Python reads several times as fast
SMALL = 8 * 2**20  # bytes of a table that fits into memory whatever stands in it
FEW = 2  # headers that wait: what is said of one may take some kilobytes of the pipe
TOLD = 64  # pictures after which somebody who listens hears how many are done
# Pictures, and their bytes, sent before the first answer; that many answers fit into a pipe.
AHEAD, HELD = 16, 32 * 2**20
# Without SYSTEMROOT no process starts on Windows.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_START = (
    "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); from sfumato.records.worker import"
    " main; main()"
)


@dataclass(frozen=True)
class Seen:
    """What one image holds.

    (width, height), whether it had EXIF, SHA-256 of its pixels by the fixed rules and of its file,
    thumbnail uint8 [64], its `levels.STORED`.
    """

    size: tuple[int, int]
    exif: bool
    print: bytes
    seal: bytes
    thumbnail: np.ndarray
    stored: np.ndarray


def look(
    read: Callable[[int], bytes],
    n: int,
    values: Values = FIXED,
    frame: Callable[[int], int] = lambda slot: PLAIN,
    box: Callable[[int], Box] = lambda slot: WHOLE,
) -> Iterator[tuple[int, Seen | str]]:
    """Each of n slots once, in any order, with what its image holds or the rule that it breaks.

    `read`: slot -> the file's bytes, or BadImage. `values`: what was declared of stored values.
    `frame`, `box`: which of a file's frames, and which part of it, a slot is. MachineError if no
    process can be started.
    """
    size = len(request(values))
    asked = _ask(
        PICTURE,
        lambda slot: request(values, 0, frame(slot), box(slot)) + read(slot),
        range(n),
        AHEAD,
        SECONDS,
    )
    for done, (slot, data, answer) in enumerate(asked, 1):
        if done % TOLD == 0:
            tell("reading the images", done, n)
        if isinstance(answer, str):
            yield slot, answer
        elif len(answer) != FOUND.size:
            yield slot, answer.decode("ascii")
        else:
            width, height, exif, seen, small, stored = FOUND.unpack(answer)
            found = np.frombuffer(small, np.uint8), np.frombuffer(stored, STORED)[0]
            yield slot, Seen((width, height), exif, seen, seal(data[size:]), *found)


def hand_over(
    read: Callable[[int], bytes],
    slots: Iterable[int],
    resolution: int = 0,
    values: Values = FIXED,
    frame: Callable[[int], int] = lambda slot: PLAIN,
    box: Callable[[int], Box] = lambda slot: WHOLE,
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields each of `slots` once, in any order, with its canonical pixels uint8 [H, W, 3].

    None if the image breaks a rule. `resolution`: pixels on a side after `decode.fit`, 0 for the
    image's own size. `values`, `frame`, `box`: as in `look`. The bytes are decoded in the
    other process: this one, which may hold keys, never runs a decoder on a private file.
    MachineError if no process can be started.
    """
    # Answers that nobody reads yet must fit into a pipe, or both sides would wait for each other.
    ahead = max(1, min(AHEAD, PIPE // (3 * resolution**2 + 64))) if resolution else 1

    def asked(slot: int) -> bytes:
        return request(values, resolution, frame(slot), box(slot)) + read(slot)

    for slot, _, answer in _ask(PIXELS, asked, slots, ahead, HANDING_OVER):
        yield slot, None if isinstance(answer, str) else _pixels_of(answer)


def headers(
    read: Callable[[int], bytes], slots: Iterable[int], tags: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each of `slots` once with what `pictures.header` says of its file, or the rule it breaks."""
    words = json.dumps(list(tags)).encode("ascii")
    head = TAGS.pack(len(words)) + words
    for slot, _, answer in _ask(HEADER, lambda slot: head + read(slot), slots, FEW, SECONDS):
        if isinstance(answer, bytes):
            answer = answer.decode("ascii")
        yield slot, json.loads(answer) if answer[:1] == "{" else answer


def _pixels_of(answer: bytes) -> np.ndarray | None:
    """What `worker._pixels` packed; None for a rule.

    A rule's few letters never have the length that their first bytes would name.
    """
    if len(answer) < SHAPE.size:
        return None
    height, width = SHAPE.unpack(answer[: SHAPE.size])
    if len(answer) != SHAPE.size + 3 * height * width:
        return None
    return np.frombuffer(answer, np.uint8, offset=SHAPE.size).reshape(height, width, 3)


def _ask(
    kind: int, read: Callable[[int], bytes], slots: Iterable[int], ahead: int, seconds: float
) -> Iterator[tuple[int, bytes, bytes | str]]:
    """Yields (slot, request, answer or broken rule) of every slot.

    At most `ahead` requests wait for their answers.
    """
    if not limits.kept_inside():
        ahead = 1  # whoever watches must know which request the process is at
    with _LOCK:
        process = _ONE
        waiting: deque[tuple[int, bytes]] = deque()
        try:
            for slot in slots:
                try:
                    data = read(slot)
                except BadImage as bad:
                    yield slot, b"", bad.rule
                    continue
                while waiting and (
                    len(waiting) >= ahead or sum(len(d) for _, d in waiting) + len(data) > HELD
                ):
                    yield _next(process, waiting, kind, seconds)
                waiting.append((slot, data))
                process.send(kind, data, seconds)
            while waiting:
                yield _next(process, waiting, kind, seconds)
        finally:
            if waiting:  # left in the middle: answers to come would be taken for others'
                process.stop()


def rehearse(files: Iterable[Path], parquet: bool = False) -> None:
    """Lets the other process read table files first.

    DataError if they take too much time or memory to read.
    """
    files = [Path(file).absolute() for file in files]
    size = sum(file.stat().st_size for file in files)
    if size <= SMALL and not parquet:
        return
    seconds = SECONDS + size / BYTES_PER_SECOND
    with _LOCK:
        process = _ONE
        process.send(
            PARQUET if parquet else TABLE,
            json.dumps([str(file) for file in files]).encode(),
            seconds,
        )
        try:
            found = process.receive()
        except _Died as died:
            found = (died.rule or CRASHED).encode("ascii")
        except BaseException:
            process.stop()
            raise
    if found == CRASHED.encode("ascii"):
        raise DataError(f"{files[0].name} crashes its reader: save it again")
    if found:
        cure = "write smaller row groups" if parquet else "leave out columns that are not needed"
        limit = f"{MEMORY / 2**30:.1f} GB" if found == TOO_MUCH else f"{seconds:.0f} s"
        raise DataError(f"{files[0].name} takes more than {limit} to read: {cure}")


def listed(kind: str, files: Sequence[Path], *said: Any) -> dict[str, Any]:
    """What a reader of layouts (`worker.LISTERS`) finds in files, read by the other process.

    DataError if it refuses them, or if they take too much time or memory.
    """
    names = [str(Path(file).absolute()) for file in files]
    size = sum(os.stat(name).st_size for name in names)
    seconds = SECONDS + size / BYTES_PER_SECOND
    answer = _of_reader(LIST, [kind, names, *said], seconds)
    name = files[0].name
    if isinstance(answer, str):
        if answer == CRASHED:
            raise DataError(f"{name} crashes its reader: save it again")
        limit = f"{MEMORY / 2**30:.1f} GB" if answer == TOO_MUCH.decode() else f"{seconds:.0f} s"
        raise DataError(f"{name} takes more than {limit} to read: write it in smaller parts")
    if answer[:1] == REFUSED:
        raise DataError(answer[1:].decode("utf-8", "surrogatepass"))
    return json.loads(answer[1:])


def fetched(kind: str, file: Path, *where: Any) -> bytes:
    """The bytes of one picture out of a file that holds many (`worker.FETCHERS`).

    The other process unpacks them, within the limits of one picture. BadImage with the rule if it
    cannot.
    """
    answer = _of_reader(FETCH, [kind, str(Path(file).absolute()), *where], SECONDS)
    if isinstance(answer, str):
        raise BadImage(answer)
    if answer[:1] != GIVEN:
        raise BadImage(answer[1:].decode("ascii"))
    return answer[1:]


def _of_reader(kind: int, asked: list[Any], seconds: float) -> bytes | str:
    """The reader's answer, or the rule that was broken when it died."""
    with _READER_LOCK:
        process = _READER
        for last in (False, True):  # a second chance if somebody else killed it
            process.send(kind, json.dumps(asked).encode("ascii"), seconds)
            try:
                answer = process.receive()
            except _Died as died:
                if died.rule or last:
                    return died.rule or CRASHED
            except BaseException:
                process.stop()
                raise
            else:
                return TOO_MUCH.decode("ascii") if answer == TOO_MUCH else answer
        raise AssertionError  # one of the two has returned


def _next(
    process: _Process, waiting: deque, kind: int, seconds: float
) -> tuple[int, bytes, bytes | str]:
    """The answer to the oldest image.

    If it killed the process, a new one gets those behind it.
    """
    slot, data = waiting[0]
    try:
        answer = process.receive()
    except _Died as died:
        answer = died.rule or _alone(process, data, kind, seconds)
        for _, later in list(waiting)[1:]:
            process.send(kind, later, seconds)
    waiting.popleft()
    return slot, data, answer


def _alone(process: _Process, data: bytes, kind: int, seconds: float) -> bytes | str:
    """A second chance if the process was killed from outside, perhaps not because of this image."""
    process.send(kind, data, seconds)
    try:
        return process.receive()
    except _Died as died:
        return died.rule or CRASHED


def seal(data: bytes) -> bytes:
    """SHA-256 of a file: only the very bytes that were indexed are handed over later."""
    return hashlib.sha256(data).digest()


class _Died(Exception):
    """The process ended over a request.

    `rule` is what it broke, None if something else killed it.
    """

    def __init__(self, rule: str | None):
        super().__init__(rule)
        self.rule = rule


class _Process:
    """The other end of the pipes. One thread at a time."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.watch: Watch | None = None

    def send(self, kind: int, data: bytes, seconds: float) -> None:
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
        head = self._read(SIZE.size)
        answer = self._read(SIZE.unpack(head)[0]) if len(head) == SIZE.size else None
        rule = self._unwatch()
        if rule or answer is None or len(answer) != SIZE.unpack(head)[0]:
            assert self.child is not None
            rule = rule or limits.broken_rule(self.child.wait())
            self.stop()
            raise _Died(rule)
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


_LOCK, _READER_LOCK = threading.Lock(), threading.Lock()
# A decoder, and a reader that unpacks pictures while the decoder waits for them.
_ONE, _READER = _Process(), _Process()


def _after_fork() -> None:
    """Forgets the process: it belongs to our parent.

    Two that write into its pipe would read each other's images.
    """
    global _LOCK, _ONE, _READER_LOCK, _READER
    _LOCK, _ONE = threading.Lock(), _Process()
    _READER_LOCK, _READER = threading.Lock(), _Process()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: (_ONE.stop(), _READER.stop()))
