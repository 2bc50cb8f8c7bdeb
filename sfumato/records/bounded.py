"""Files from anyone, read in a bounded way: a separate process decodes them, and may die.

Time and memory are fixed rules on one file alone, so they change no other record: the decision
stays 1-stable.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..options import FIXED, Values
from ..options.progress import tell
from . import limits
from .decode import BadImage
from .levels import STORED
from .limits import CRASHED, MEMORY
from .pictures import PLAIN
from .process import Died, Process
from .worker import (
    FOUND,
    HEADER,
    PARQUET,
    PICTURE,
    PIXELS,
    SHAPE,
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


@dataclass(frozen=True)
class Seen:
    """What one image holds.

    (width, height), whether it had EXIF, SHA-256 of its pixels by the fixed rules and of its file,
    its `levels.STORED`, and SHA-256 of the pixels as training sees them where these are not those
    of `print` (else zeros).
    """

    size: tuple[int, int]
    exif: bool
    print: bytes
    seal: bytes
    stored: np.ndarray
    shown: bytes


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
            width, height, exif, seen, stored, shown = FOUND.unpack(answer)
            found = np.frombuffer(stored, STORED)[0]
            yield slot, Seen((width, height), exif, seen, seal(data[size:]), found, shown)


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
        except Died as died:
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


def _next(
    process: Process, waiting: deque, kind: int, seconds: float
) -> tuple[int, bytes, bytes | str]:
    """The answer to the oldest image.

    If it killed the process, a new one gets those behind it.
    """
    slot, data = waiting[0]
    try:
        answer = process.receive()
    except Died as died:
        answer = died.rule or _alone(process, data, kind, seconds)
        for _, later in list(waiting)[1:]:
            process.send(kind, later, seconds)
    waiting.popleft()
    return slot, data, answer


def _alone(process: Process, data: bytes, kind: int, seconds: float) -> bytes | str:
    """A second chance if the process was killed from outside, perhaps not because of this image."""
    process.send(kind, data, seconds)
    try:
        return process.receive()
    except Died as died:
        return died.rule or CRASHED


def seal(data: bytes) -> bytes:
    """SHA-256 of a file: only the very bytes that were indexed are handed over later."""
    return hashlib.sha256(data).digest()


_LOCK, _ONE = threading.Lock(), Process()


def _after_fork() -> None:
    """Forgets the process: it belongs to our parent.

    Two that write into its pipe would read each other's images.
    """
    global _LOCK, _ONE
    _LOCK, _ONE = threading.Lock(), Process()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _ONE.stop())
