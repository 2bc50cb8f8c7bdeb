"""The decoder's own process, under limits that it cannot raise (limits.py).

Encoded images come in on stdin, what they hold goes out on stdout. A file that takes too long,
takes too much memory or crashes a C library ends this process and nothing else; `bounded.py` starts
it, reads its answers and knows which file it was.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

from ..errors import DataError
from . import decode, limits, parquet, tables

READY = b"R"
HEAD = struct.Struct("<BdQ")  # what to do, seconds of processor time for it, bytes that follow
SIZE = struct.Struct("<I")  # of an answer
FOUND = struct.Struct("<II?32s64s")  # width, height, whether it had EXIF, fingerprint, thumbnail
# before a picture that is to be handed over: pixels on a side, or 0 for its own size
SIDE = struct.Struct("<I")
SHAPE = struct.Struct("<II")  # height, width before the pixels that are handed over
PICTURE, TABLE, PARQUET, PIXELS = range(4)
TOO_MUCH = limits.TOO_MUCH.encode("ascii")


def main() -> None:
    """Answers requests until stdin ends.

    A timer of processor time is set anew for each; its signal ends the process.
    """
    limits.limit_process()
    taken, out = sys.stdin.buffer, sys.stdout.fileno()
    os.write(out, READY)
    while head := taken.read(HEAD.size):
        kind, seconds, length = HEAD.unpack(head)
        limits.limit_time(seconds)
        try:
            answer = (_picture, _table, _parquet, _pixels)[kind](taken.read(length))
        except MemoryError:
            answer = TOO_MUCH
        limits.limit_time(0)
        _write(out, SIZE.pack(len(answer)) + answer)


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def _pixels(data: bytes) -> bytes:
    """SHAPE and canonical pixels, or the rule that refuses the image.

    Cropped and resized to SIDE unless that is 0.
    """
    try:
        pixels = decode.decode(data[SIDE.size :])[0]
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    side = SIDE.unpack(data[: SIDE.size])[0]
    pixels = decode.fit(pixels, side) if side else pixels
    return SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()


def _picture(data: bytes) -> bytes:
    """FOUND, or the name of the rule that refuses the image."""
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
