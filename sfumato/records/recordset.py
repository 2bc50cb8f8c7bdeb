"""The private records: labels, units and a lazy way to their pixels."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .decode import PAD_AT_MOST, BadImage, decode, fingerprint, fit


@dataclass(frozen=True, eq=False, repr=False)
class Facts:
    """What reading every record once has shown. Private: for the local summary and the checks, never for a release."""

    sizes: np.ndarray | None = None  # int64 [n, 2] width, height of decoded images
    exif: np.ndarray | None = None  # bool [n]
    prints: tuple[bytes, ...] | None = None  # SHA-256 of each record's canonical pixels; b"" for zero slots
    thumbnails: np.ndarray | None = None  # uint8 [n, 64] grey 8x8
    bad: dict[str, int] = field(default_factory=dict)  # rule -> count
    ignored: dict[str, int] = field(default_factory=dict)  # files that are no records: reason -> count
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RecordSet:
    """n slots of private images with labels and privacy units (privacy unit: the thing that is protected).

    `labels` int64 [n] index into `classes` (-1: none usable); `unit` int64 [n] in 0..n_units-1; `usable` bool [n]:
    a slot that is False broke a rule, stays in n and contributes nothing. The repr shows no record.
    """

    source: str
    kind: str
    classes: tuple[str, ...]
    labels: np.ndarray = field(repr=False)
    unit: np.ndarray = field(repr=False)
    unit_column: str | None
    usable: np.ndarray = field(repr=False)
    captions: tuple[str, ...] | None = field(default=None, repr=False)
    facts: Facts = field(default_factory=Facts, repr=False)
    classes_found: bool = False
    array: np.ndarray | None = field(default=None, repr=False)  # uint8 [n, H, W] or [n, H, W, 3]
    read: Callable[[int], bytes] | None = field(default=None, repr=False)  # slot -> encoded image file

    @property
    def n(self) -> int:
        """Number of slots, zero slots included; the n that is public under zero-out."""
        return len(self.labels)

    @property
    def n_units(self) -> int:
        """Number of privacy units."""
        return int(self.unit.max()) + 1 if self.n else 0

    @property
    def max_per_unit(self) -> int:
        """Most slots that one unit owns."""
        return int(np.bincount(self.unit).max()) if self.n else 0

    def images(self, indices, resolution: int) -> np.ndarray:
        """uint8 [k, R, R, 3] RGB of the slots `indices`; zeros where a slot is unusable.

        Square centre crop, then Lanczos. Array records at most 4 px smaller than R are padded with zeros instead.
        A file that has changed or vanished since it was indexed gives zeros: after a charge no record ends a run.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        out = np.zeros((len(indices), resolution, resolution, 3), np.uint8)
        if self.array is not None:
            self._from_array(indices, out)
            return out
        for row in np.argsort(indices, kind="stable"):  # slot order: parquet row groups are read once each
            slot = int(indices[row])
            if not self.usable[slot]:
                continue
            pixels = self.pixels(slot)
            if pixels is not None and fingerprint(pixels) == self.facts.prints[slot]:
                out[row] = fit(pixels, resolution)
        return out

    def pixels(self, slot: int) -> np.ndarray | None:
        """Canonical pixels uint8 [H, W, 3] of one slot at its own size, or None when it cannot be read."""
        if self.array is not None:
            return _rgb(self.array[slot])
        try:
            return decode(self.read(slot))[0]
        except BadImage:
            return None

    def _from_array(self, indices: np.ndarray, out: np.ndarray) -> None:
        resolution, (height, width) = out.shape[1], self.array.shape[1:3]
        good = np.flatnonzero(self.usable[indices])
        before = (resolution - height) // 2
        if height == width and 0 <= resolution - height <= PAD_AT_MOST:
            block = self.array[indices[good]]
            out[good, before : before + height, before : before + width] = (
                block if block.ndim == 4 else block[..., None]
            )
            return
        for row in good:
            out[row] = fit(_rgb(self.array[indices[row]]), resolution, pad=True)

    def digest(self, key: bytes) -> str:
        """Hex HMAC-SHA256 under `key` of pixels, labels, units and captions in slot order: the identity of these data.

        It does not depend on the file format. Raises ValueError for a key under 16 bytes.
        """
        if len(key) < 16:
            raise ValueError("digest needs a key of at least 16 bytes")
        mac = hmac.new(key, digestmod=hashlib.sha256)
        for name in self.classes:
            mac.update(hashlib.sha256(name.encode()).digest())
        for slot in range(self.n):
            mac.update(self._print(slot))
            if self.captions is not None:
                mac.update(hashlib.sha256(self.captions[slot].encode("utf-8", "surrogatepass")).digest())
        mac.update(self.labels.astype("<i8").tobytes() + self.unit.astype("<i8").tobytes())
        mac.update(self.usable.astype(np.uint8).tobytes())
        return mac.hexdigest()

    def _print(self, slot: int) -> bytes:
        if not self.usable[slot]:
            return bytes(32)
        return self.facts.prints[slot] if self.facts.prints is not None else fingerprint(self.pixels(slot))


def _rgb(row: np.ndarray) -> np.ndarray:
    return np.repeat(row[..., None], 3, axis=2) if row.ndim == 2 else row
