"""The decoder's own process, under limits that it cannot raise (limits.py).

Encoded images come in on stdin, what they hold goes out on stdout. A file that takes too long,
takes too much memory or crashes a C library ends this process and nothing else; `bounded.py` starts
it, reads its answers and knows which file it was.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..options import Values
from ..options.values import BACKGROUNDS
from . import decode, levels, limits, parquet, pictures, tables
from .pictures import WHOLE, Box

READY = b"R"
HEAD = struct.Struct("<BdQ")  # what to do, seconds of processor time for it, bytes that follow
SIZE = struct.Struct("<I")  # of an answer
# width, height, whether it had EXIF, fingerprint, what it holds, and the fingerprint of what
# training sees where that is something else (zeros: it is not)
FOUND = struct.Struct(f"<II?32s{levels.STORED.itemsize}s32s")
# Before a picture: pixels on a side, or 0 for its own size; whether a range is declared, its ends,
# whether greys are inverted, the place of the ground in BACKGROUNDS, the frame of the file, and
# left, top, right, bottom of the part of it that is meant (zeros: all of it).
ASKED = struct.Struct("<I?dd?Bi4I")
SHAPE = struct.Struct("<II")  # height, width before the pixels that are handed over
PICTURE, TABLE, PARQUET, PIXELS, HEADER, LIST, FETCH = range(7)
TAGS = struct.Struct("<I")  # bytes of the tags' names before a file whose header is asked for
GIVEN, REFUSED = b"+", b"-"  # before what was asked for, and before why it is not given
# What lies in files of a kind, and the bytes of one picture of them: modules that are imported
# when they are needed, for they ask this process in turn.
LISTERS = {
    "zip": ("archives", "of_zip"),
    "tar": ("archives", "of_tar"),
    "arrow": ("layouts.arrow", "listing"),
    "parquet": ("parquet", "listing"),
    "webdataset": ("layouts.webdataset", "listing"),
    "coco": ("layouts.coco", "parse"),
}
FETCHERS = {
    "zip": ("archives", "unzip"),
    "arrow": ("layouts.arrow", "cell"),
    "parquet": ("parquet", "cell"),
}
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
            answer = _ANSWERS[kind](taken.read(length))
        except MemoryError:
            answer = TOO_MUCH
        limits.limit_time(0)
        _write(out, SIZE.pack(len(answer)) + answer)


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def request(values: Values, side: int = 0, frame: int = pictures.PLAIN, box: Box = WHOLE) -> bytes:
    """What stands before the bytes of a picture."""
    ends = (0.0, 0.0) if values.low is None or values.high is None else (values.low, values.high)
    ground = BACKGROUNDS.index(values.background)
    return ASKED.pack(side, values.low is not None, *ends, values.invert, ground, frame, *box)


def _asked(data: bytes) -> tuple[int, Values, int, Box, bytes]:
    side, declared, low, high, invert, ground, frame, *box = ASKED.unpack(data[: ASKED.size])
    ends = (low, high) if declared else (None, None)
    left, top, right, bottom = box
    values = Values(*ends, invert, BACKGROUNDS[ground])
    return side, values, frame, (left, top, right, bottom), data[ASKED.size :]


def _pixels(data: bytes) -> bytes:
    """SHAPE and canonical pixels, or the rule that refuses the image.

    Cropped and resized to the asked side unless that is 0.
    """
    side, values, frame, box, data = _asked(data)
    try:
        pixels = pictures.pixels(data, values, frame)
        pixels = pixels if box == WHOLE else decode.cut(pixels, box)
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    pixels = decode.fit(pixels, side) if side else pixels
    return SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()


def _picture(data: bytes) -> bytes:
    """FOUND, or the name of the rule that refuses the image."""
    _, values, frame, box, data = _asked(data)
    try:
        found = pictures.examine(data, values, frame)
        found = found if box == WHOLE else found.cut(box)
    except decode.BadImage as bad:
        return bad.rule.encode("ascii")
    seen = found.mark or decode.fingerprint(found.plain)
    height, width = found.pixels.shape[:2]
    follows = found.mark is None and found.plain is found.pixels
    shown = b"" if follows else decode.fingerprint(found.pixels)
    return FOUND.pack(width, height, found.exif, seen, found.stored.tobytes(), shown)


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


def _reader(place: tuple[str, str]) -> Callable[..., Any]:
    module, name = place
    return getattr(importlib.import_module(f"sfumato.records.{module}"), name)


def _list(asked: bytes) -> bytes:
    kind, names, *said = json.loads(asked)
    try:
        found = _reader(LISTERS[kind])([Path(name) for name in names], *said)
    except DataError as error:
        return REFUSED + str(error).encode("utf-8", "surrogatepass")
    return GIVEN + json.dumps(found).encode("ascii")


def _fetch(asked: bytes) -> bytes:
    kind, name, *where = json.loads(asked)
    try:
        return GIVEN + _reader(FETCHERS[kind])(Path(name), *where)
    except decode.BadImage as bad:
        return REFUSED + bad.rule.encode("ascii")


_ANSWERS = (_picture, _table, _parquet, _pixels, _header, _list, _fetch)
