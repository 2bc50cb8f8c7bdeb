"""A split: which units are set apart for testing, each by a keyed hash of its own value alone.

The key is random and stays in a private file, so no unit's side follows from any other unit, from
an order, or from how many there are; nothing is copied.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, MachineError, SfumatoError
from .bounded import seal
from .decode import BadImage
from .spelling import unit_digest, unit_value

T = TypeVar("T")
FORMAT, KEY, MARKS = 1, 32, 64
PARTS = ("train", "test")
BOTH = "both"
LAST = 2**64 - 1  # the code of a record that has no value: it stays in training
NOTE = (
    "PRIVATE: decides which units were set apart for testing. Keep it beside the images; it never"
    " leaves."
)
CURE = "make one with `sfumato split`"


@dataclass(frozen=True)
class Part:
    """Slots of a source that belong to a part: int64 [k], and their codes uint64 [k]."""

    slots: np.ndarray
    codes: np.ndarray

    def of(self, values: Sequence[T] | None) -> list[T] | None:
        """The values of these slots."""
        return None if values is None else [values[slot] for slot in self.slots.tolist()]


@dataclass(frozen=True, repr=False)
class Split:
    """A split of a source; its repr shows nothing of the key.

    key: 32 random bytes. share: the chance of each unit to be held out. unit: column of the units;
    None: single images. marks: the smallest codes of the units it was made for, by which another
    set is known.
    """

    key: bytes
    share: float
    unit: str | None
    marks: tuple[int, ...] = ()

    @classmethod
    def draw(cls, share: float, unit: str | None) -> Split:
        """A new split, with a key from the operating system.

        SfumatoError unless 0 < share < 1.
        """
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not (number and math.isfinite(share) and 0 < share < 1):
            raise SfumatoError(f"--test {share}: must be a share of the units, above 0 and below 1")
        return cls(os.urandom(KEY), float(share), unit)

    def codes(self, values: Sequence[bytes], kind: str) -> np.ndarray:
        """uint64 [n]: each value's own keyed code, `LAST` for b"" (a record that has no value).

        kind: what the values are ("unit", "image").
        """
        known: dict[bytes, int] = {b"": LAST}
        for value in values:
            if value not in known:
                code = hmac.digest(self.key, kind.encode() + b"\0" + value, hashlib.sha256)
                known[value] = int.from_bytes(code[:8], "big")
        return np.array([known[value] for value in values], np.uint64)

    def held_out(self, codes: np.ndarray) -> np.ndarray:
        """Whether each code is held out, bool [n]."""
        return codes < np.uint64(min(int(self.share * 2**64), LAST))

    def made_for(self, codes: np.ndarray, unit: str | None) -> Split:
        """The split with its unit and the marks of the set that it was made for."""
        marks = np.unique(codes[codes < np.uint64(LAST)])[:MARKS]
        return replace(self, unit=unit, marks=tuple(marks.tolist()))

    def require_unit(self, column: str | None) -> None:
        """SfumatoError if it was made by other units: one of these could be in both parts."""
        if column == self.unit:
            return
        own = "single images" if self.unit is None else f"units of {self.unit!r}"
        other = "single images" if column is None else f"--unit {column}"
        raise SfumatoError(
            f"the split sets {own} apart and the images are read by {other}: {CURE} IMAGES"
            + (f" --unit {column}" if column else "")
        )

    def require_source(self, codes: np.ndarray) -> None:
        """DataError if fewer than half of the units that it was made for are here."""
        found = int(np.isin(np.array(self.marks, np.uint64), codes).sum())
        if 2 * found < len(self.marks):
            raise DataError(
                "the split was made for another set of images, or their files have changed since:"
                f" {CURE} for this one"
            )

    def save(self, path: str | Path) -> None:
        """Writes a new private file. SfumatoError if something is there already."""
        body = {
            "PRIVATE": NOTE,
            "format": FORMAT,
            "key": self.key.hex(),
            "test": self.share,
            "unit": self.unit,
            "marks": [f"{mark:016x}" for mark in self.marks],
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(path, flags, 0o600), "wb") as file:
                file.write(json.dumps(body, indent=1).encode() + b"\n")
        except FileExistsError:
            raise _there(path) from None
        except FileNotFoundError:
            raise SfumatoError(
                f"{path}: there is no folder {Path(path).parent}: make it, or name another place"
            ) from None
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror}") from None


def require_new(path: str | Path) -> None:
    """SfumatoError if a split, or anything else, is there."""
    if Path(path).exists():
        raise _there(path)


def _there(path: str | Path) -> SfumatoError:
    return SfumatoError(
        f"{path} exists: another key would move units from one part to the other; name a new file"
        " with -o"
    )


def read_split(place: str | Path | Split) -> Split:
    """The split in a file. SfumatoError if it is none, or of another version."""
    if isinstance(place, Split):
        return place
    try:
        body: Any = json.loads(Path(place).read_text("utf-8"))
    except OSError as error:
        raise SfumatoError(
            f"the split {str(place)!r} cannot be read ({error.strerror}): put it back"
        ) from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or "format" not in body:
        raise SfumatoError(f"{str(place)!r} is not a split: {CURE}")
    if body["format"] != FORMAT:
        raise SfumatoError(
            f"the split {str(place)!r} is of another version (format {body['format']}): use the"
            " sfumato that made it"
        )
    try:
        key, share, unit = bytes.fromhex(body["key"]), body["test"], body["unit"]
        marks = tuple(int(mark, 16) for mark in body["marks"])
        sound = len(key) == KEY and isinstance(share, float) and 0 < share < 1
        sound = sound and (unit is None or isinstance(unit, str))
        if not (sound and all(0 <= mark <= LAST for mark in marks)):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SfumatoError(f"the split {str(place)!r} is damaged: put it back") from None
    return Split(key, share, unit, marks)


def part_of(
    split: Split,
    part: str,
    column: str | None,
    units: Sequence[str | None] | None,
    images: Callable[[], Sequence[bytes]],
) -> Part:
    """The slots of a part of a source.

    Args:
        split: Who is set apart.
        part: "train", "test", or "both" for all of them (while the split is made).
        column: Name of the unit column, None if the unit is one image.
        units: Its values, if there is one.
        images: Gives a digest of each image's own bytes, b"" for one that cannot be read.
    """
    kind, values = ("image", images()) if units is None else ("unit", _digests(units))
    codes = split.codes(values, kind)
    if part == BOTH:
        return Part(np.arange(len(codes)), codes)
    split.require_unit(column)
    split.require_source(codes)
    slots = np.flatnonzero(split.held_out(codes) == (part == "test"))
    if not len(slots):
        where = "held-out" if part == "test" else "training"
        raise DataError(f"the split leaves no {where} image of this set: {CURE} for this one")
    return Part(slots, codes[slots])


def _digests(units: Sequence[str | None]) -> list[bytes]:
    """SHA-256 of every value as `unit_value` spells it, b"" where there is none."""
    known: dict[str | None, bytes] = {None: b""}
    for name in set(units) - {None}:
        known[name] = unit_digest(unit_value(name or ""))
    return [known[name] for name in units]


def file_digests(read: Callable[[int], bytes], n: int) -> list[bytes]:
    """SHA-256 of each file's bytes, whether they decode or not; b"" where there are none."""

    def digest(slot: int) -> bytes:
        try:
            return seal(read(slot))
        except BadImage:
            return b""

    return [digest(slot) for slot in range(n)]


def array_digests(images: np.ndarray) -> list[bytes]:
    """SHA-256 of each image of an array as it is stored."""
    kind = f"{images.dtype.str} {images.shape[1:]}".encode()
    return [hashlib.sha256(kind + np.asarray(image).tobytes()).digest() for image in images]
