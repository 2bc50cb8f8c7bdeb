"""The scans of a JPEG, counted by its markers: other bytes of the file say nothing of them."""

from __future__ import annotations

import re
from typing import NamedTuple

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
# Inside a scan a 255 is followed by a zero, a restart marker or more of its kind; else it ends.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


class Scans(NamedTuple):
    """How many scans the picture has, and whether its end marker is there."""

    count: int
    complete: bool


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG."""
    return data[:2] == b"\xff\xd8"


def scans(data: bytes) -> Scans:
    """The scans of the first picture in the bytes.

    Metadata, thumbnails, and what lies behind its end (other pictures, films of a telephone) are
    passed over: only segments that a decoder follows count.
    """
    at, count = 2, 0
    while at + 2 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # filling
            at += 1
        elif kind == _END:
            return Scans(count, True)
        elif kind == _START or kind == 1 or 0xD0 <= kind <= 0xD7:  # without a length
            at += 2
        else:
            if at + 4 > len(data):
                break
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if kind == _SCAN:
                count += 1
                found = _MARKER.search(data, at)
                if found is None:
                    break
                at = found.start(1) - 1
    return Scans(count, False)
