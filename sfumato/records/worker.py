"""The decoder's own process: encoded pictures in on stdin, what they hold out on stdout, under
limits that it cannot raise.

A file that takes too long, takes too much memory or crashes a C library ends this process and
nothing else; `bounded.py` starts it, reads its answers and knows which file it was.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path

from ..errors import DataError
from . import decode, parquet, tables

MEMORY = 1536 * 2**20  # bytes of addresses for the whole process
READY = b"R"
HEAD = struct.Struct("<BdQ")  # what to do, seconds of processor time for it, bytes that follow
SIZE = struct.Struct("<I")  # of an answer
FOUND = struct.Struct("<II?32s64s")  # width, height, whether it had EXIF, fingerprint, thumbnail
# before a picture that is to be handed over: pixels on a side, or 0 for its own size
SIDE = struct.Struct("<I")
SHAPE = struct.Struct("<II")  # height, width before the pixels that are handed over
PICTURE, TABLE, PARQUET, PIXELS = range(4)
TOO_MUCH = b"takes too much memory"


def main() -> None:
    """Answer requests until stdin ends. A timer of processor time is set anew for each; its signal
    ends the process.
    """
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, MEMORY),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # a system without this limit: the others stay
            continue
    taken, out = sys.stdin.buffer, sys.stdout.fileno()
    os.write(out, READY)
    while head := taken.read(HEAD.size):
        kind, seconds, length = HEAD.unpack(head)
        # Not the clock on the wall, which would blame a file for what else the machine does.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = (_picture, _table, _parquet, _pixels)[kind](taken.read(length))
        except MemoryError:
            answer = TOO_MUCH
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(out, SIZE.pack(len(answer)) + answer)


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def _pixels(data: bytes) -> bytes:
    """SHAPE and canonical pixels, cropped and resized to SIDE where that is not 0; or the rule that
    refuses the picture.
    """
    try:
        pixels = decode.decode(data[SIDE.size :])[0]
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    side = SIDE.unpack(data[: SIDE.size])[0]
    pixels = decode.fit(pixels, side) if side else pixels
    return SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()


def _picture(data: bytes) -> bytes:
    """FOUND, or the name of the rule that refuses the picture."""
    try:
        pixels, exif = decode.decode(data)
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    seen = decode.fingerprint(pixels), decode.thumbnail(pixels).tobytes()
    return FOUND.pack(pixels.shape[1], pixels.shape[0], exif, *seen)


def _table(names: bytes) -> bytes:
    try:
        tables.read_table(Path(*json.loads(names)))
    except DataError:  # the process that asked will meet the same refusal, as cheaply
        pass
    return b""


def _parquet(names: bytes) -> bytes:
    try:
        parquet.read_through([Path(name) for name in json.loads(names)])
    except DataError:
        pass
    return b""
