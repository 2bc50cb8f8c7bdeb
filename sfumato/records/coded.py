"""Long columns in little memory: a value that many records share is kept once."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np

DIGEST = 32  # bytes


class Coded:
    """A column of texts as numbers of its different values; what one process hands to another."""

    def __init__(self) -> None:
        self.codes, self.values = array("i"), {}

    def add(self, cells: Iterable[str | None]) -> None:
        """More cells at the end."""
        values = self.values
        self.codes.extend(values.setdefault(cell, len(values)) for cell in cells)

    def packed(self) -> dict[str, Any]:
        """The column for `json`."""
        return {"values": list(self.values), "codes": packed(np.array(self.codes, "<i4"))}


def unpacked(column: dict[str, Any]) -> list[str | None]:
    """The cells of `Coded.packed`."""
    values = column["values"]
    return [values[code] for code in numbers(column["codes"], "<i4").data]


def packed(found: np.ndarray) -> str:
    """Numbers for `json`, many times shorter than as a list."""
    return base64.b64encode(found.tobytes()).decode("ascii")


def numbers(text: str, dtype: str = "<i8") -> np.ndarray:
    """What `packed` packed, flat."""
    return np.frombuffer(base64.b64decode(text), dtype)


class Digests(Sequence[bytes]):
    """n digests of 32 bytes, b"" where there is none, without an object for each."""

    def __init__(self, n: int) -> None:
        self._held, self._there = np.zeros((n, DIGEST), np.uint8), np.zeros(n, bool)

    def __len__(self) -> int:
        return len(self._there)

    def __setitem__(self, slot: int, digest: bytes) -> None:
        self._there[slot] = bool(digest)
        if digest:
            self._held[slot] = np.frombuffer(digest, np.uint8)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[slot] for slot in range(*at.indices(len(self)))]
        return self._held[at].tobytes() if self._there[at] else b""

    def numbered(self) -> np.ndarray:
        """int64 [n], the same number for the same digest; each b"" has a number of its own."""
        found = np.arange(len(self), dtype=np.int64)
        at = np.flatnonzero(self._there)
        if len(at):
            keys = np.ascontiguousarray(self._held[at]).view(f"V{DIGEST}").reshape(-1)
            _, first, same = np.unique(keys, return_index=True, return_inverse=True)
            found[at] = at[first][same]
        return found
