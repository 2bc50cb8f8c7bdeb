"""The box of a C2PA manifest, read strictly: JUMBF (ISO 19566-5) with CBOR (RFC 8949) in it.

As much of both as a manifest of `credentials` has. What is not understood is a ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DEEPEST = 8


@dataclass(frozen=True)
class Box:
    """A box with a label, and the boxes and contents in it.

    Attributes:
        kind: The type of its content, 16 bytes.
        label: Its name.
        salt: Random bytes that hide what the box is hashed to.
        boxes: Boxes in it, in order.
        content: Bytes of its one content box, if it has one.
        sort: Type of that content box.
    """

    kind: bytes
    label: str
    salt: bytes = b""
    boxes: list[Box] = field(default_factory=list)
    content: bytes | None = None
    sort: bytes = b""


def read_box(data: bytes, depth: int = 0) -> Box:
    """The one box that these bytes are, whole."""
    sort, body, rest = _next(data)
    if sort != b"jumb" or rest or depth > DEEPEST:
        raise ValueError("not one JUMBF box")
    sort, about, body = _next(body)
    if sort != b"jumd" or len(about) < 18:
        raise ValueError("a box without its description")
    kind, toggles, named = about[:16], about[16], about[17:]
    label, end, more = named.partition(b"\0")
    if not end or toggles not in (3, 0x13):  # may be asked for, has a label; has a salt
        raise ValueError("a description with more than a label and a salt")
    salt = b""
    if toggles == 0x13:
        sort, salt, more = _next(more)
        if sort != b"c2sh" or not 16 <= len(salt) <= 32:
            raise ValueError("a salt of another size")
    if more:
        raise ValueError("bytes behind a description")
    found = Box(kind, label.decode("ascii"), salt)
    parts = []
    while body:
        size = len(body)
        sort, inner, body = _next(body)
        parts.append((sort, inner, data_of(sort, inner)))
        assert len(body) < size
    if [sort for sort, _, _ in parts] == [b"cbor"]:
        return Box(found.kind, found.label, salt, [], parts[0][1], b"cbor")
    found.boxes.extend(read_box(whole, depth + 1) for _, _, whole in parts)
    return found


def data_of(sort: bytes, inner: bytes) -> bytes:
    """A box with its head again."""
    return (len(inner) + 8).to_bytes(4, "big") + sort + inner


def _next(data: bytes) -> tuple[bytes, bytes, bytes]:
    """(type, content, what follows) of the first box."""
    size = int.from_bytes(data[:4], "big")
    if not 8 <= size <= len(data):
        raise ValueError("a box that does not end")
    return data[4:8], data[8:size], data[size:]


def read_cbor(data: bytes) -> Any:
    """The one value that these bytes are: maps, lists, texts, bytes, whole numbers, null, tags.

    A tag is ("tag", number, value). Lengths must be given, and names of a map differ.
    """
    value, rest = _value(data, 0)
    if rest:
        raise ValueError("bytes behind a value")
    return value


def _value(data: bytes, depth: int) -> tuple[Any, bytes]:
    if not data or depth > DEEPEST:
        raise ValueError("a value that does not end")
    major, low, data = data[0] >> 5, data[0] & 31, data[1:]
    if major == 7:
        if low not in (20, 21, 22):
            raise ValueError("a simple value that is not read here")
        return {20: False, 21: True, 22: None}[low], data
    if low >= 28:
        raise ValueError("a length that is not given")
    size = 0 if low < 24 else 1 << (low - 24)
    number = low if low < 24 else int.from_bytes(data[:size], "big")
    if len(data) < size:
        raise ValueError("a number that does not end")
    data = data[size:]
    if major in (0, 1):
        return (number if major == 0 else -1 - number), data
    if major in (2, 3):
        if len(data) < number:
            raise ValueError("a text that does not end")
        own = data[:number]
        return (own if major == 2 else own.decode("utf-8")), data[number:]
    if major == 6:
        inner, data = _value(data, depth + 1)
        return ("tag", number, inner), data
    found: list[Any] = []
    for _ in range(number * (2 if major == 5 else 1)):
        inner, data = _value(data, depth + 1)
        found.append(inner)
    if major == 4:
        return found, data
    pairs = dict(zip(found[::2], found[1::2]))
    if len(pairs) < number:
        raise ValueError("a name twice in a map")
    return pairs, data
