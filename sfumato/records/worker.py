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
from ..options import Values
from ..options.values import BACKGROUNDS
from . import decode, levels, limits, parquet, pictures, tables

READY = b"R"
HEAD = struct.Struct("<BdQ")  # what to do, seconds of processor time for it, bytes that follow
SIZE = struct.Struct("<I")  # of an answer
# width, height, whether it had EXIF, fingerprint, thumbnail, what it holds
FOUND = struct.Struct(f"<II?32s64s{levels.STORED.itemsize}s")
# Before a picture: pixels on a side, or 0 for its own size; whether a range is declared, its ends,
# whether greys are inverted, the place of the ground in BACKGROUNDS, and the frame of the file.
ASKED = struct.Struct("<I?dd?Bi")
SHAPE = struct.Struct("<II")  # height, width before the pixels that are handed over
PICTURE, TABLE, PARQUET, PIXELS, HEADER = range(5)
TAGS = struct.Struct("<I")  # bytes of the tags' names before a file whose header is asked for
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
            answer = (_picture, _table, _parquet, _pixels, _header)[kind](taken.read(length))
        except MemoryError:
            answer = TOO_MUCH
        limits.limit_time(0)
        _write(out, SIZE.pack(len(answer)) + answer)


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def request(values: Values, side: int = 0, frame: int = pictures.PLAIN) -> bytes:
    """What stands before the bytes of a picture."""
    ends = (0.0, 0.0) if values.low is None or values.high is None else (values.low, values.high)
    ground = BACKGROUNDS.index(values.background)
    return ASKED.pack(side, values.low is not None, *ends, values.invert, ground, frame)


def _asked(data: bytes) -> tuple[int, Values, int, bytes]:
    side, declared, low, high, invert, ground, frame = ASKED.unpack(data[: ASKED.size])
    ends = (low, high) if declared else (None, None)
    return side, Values(*ends, invert, BACKGROUNDS[ground]), frame, data[ASKED.size :]


def _pixels(data: bytes) -> bytes:
    """SHAPE and canonical pixels, or the rule that refuses the image.

    Cropped and resized to the asked side unless that is 0.
    """
    side, values, frame, data = _asked(data)
    try:
        pixels = pictures.pixels(data, values, frame)
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    pixels = decode.fit(pixels, side) if side else pixels
    return SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()


def _picture(data: bytes) -> bytes:
    """FOUND, or the name of the rule that refuses the image."""
    _, values, frame, data = _asked(data)
    try:
        found = pictures.examine(data, values, frame)
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    seen = found.mark or decode.fingerprint(found.plain), decode.thumbnail(found.pixels).tobytes()
    height, width = found.pixels.shape[:2]
    return FOUND.pack(width, height, found.exif, *seen, found.stored.tobytes())


def _header(data: bytes) -> bytes:
    """What `pictures.header` says as JSON, or the name of the rule that refuses the file."""
    end = TAGS.size + TAGS.unpack(data[: TAGS.size])[0]
    try:
        found = pictures.header(data[end:], json.loads(data[TAGS.size : end]))
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    return json.dumps(found).encode("ascii")


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
