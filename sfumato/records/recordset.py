"""The private records: labels, units and a lazy way to their pixels."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypedDict

import numpy as np

from ..options import FIXED, Values
from .bounded import hand_over, seal
from .decode import PAD_AT_MOST, BadImage, bordered, fingerprints, fit
from .pictures import PLAIN, WHOLE, Box
from .stack import as_rgb

CHANGED = "changed since it was indexed"


class Marks(TypedDict):
    """What a ledger knows slots by beside their pixels; see `RecordSet.marks`."""

    files: tuple[bytes, ...] | None
    units: tuple[bytes, ...] | None


@dataclass(frozen=True, eq=False, repr=False)
class Facts:
    """What reading every record once has shown.

    Private: for the local summary and the checks, never for a release.
    """

    sizes: np.ndarray | None = None  # int32 [n, 2] width, height of decoded images
    exif: np.ndarray | None = None  # bool [n]
    # SHA-256 of each record's canonical pixels by the fixed rules; b"" for zero slots
    prints: Sequence[bytes] | None = None
    # SHA-256 of each file as it was indexed; b"" for zero slots
    seals: Sequence[bytes] | None = None
    # SHA-256 of the pixels as training sees them, where `prints` are of others (by the fixed rules
    # where something is declared, of the samples of DICOM, whose windows may change); b"" elsewhere
    shown: Sequence[bytes] | None = None
    units: tuple[bytes, ...] | None = (
        None  # SHA-256 of each slot's unit value as `unit_value` spells it; b"" where missing
    )
    stored: np.ndarray | None = None  # levels.STORED [n]
    bad: dict[str, int] = field(default_factory=dict)  # rule -> count
    rules: tuple[str | None, ...] = ()  # the rule that each slot breaks
    # column -> values, where somebody only looks (`load_records(refusals=...)`)
    table: dict[str, list[str | None]] = field(default_factory=dict)
    # files that are no records: reason -> count
    ignored: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)  # files of DICOM, NIfTI, TIFF and HEIC
    marked: dict[str, int] = field(default_factory=dict)  # of DICOM, what `frames.WARNINGS` names
    layout: tuple[str, ...] = ()  # what was seen and why it was read so, a line each
    respelt: int = 0  # spellings of units that were taken for another one's
    doubtful: int = 0  # units whose value might be another spelling of another's
    people_apart: int = 0  # patients of DICOM whose pictures lie in several units
    codes: np.ndarray | None = None  # uint64 [n] of a `split`, in the order of the source
    # Read as versions before read: rows of one picture are units of their own, splits are classes.
    # For runs that such a version began; see `build.require_read_as_today`.
    before: bool = False


@dataclass(frozen=True, eq=False)
class RecordSet:
    """n slots of private images with labels and privacy units (privacy unit: what is protected).

    `labels` int64 [n] index into `classes` (-1: none usable); `unit` int64 [n] in 0..n_units-1;
    `usable` bool [n]: a slot that is False broke a rule, stays in n and contributes nothing.
    `classes_found`: the list was read off the data; `confirmed`: and declared public as it was
    found. `few`: the found classes of fewer units than `assemble.FEW` and how many units each has;
    they are not in `classes`, their records have label -1, and nothing is planned or trained before
    the owner has declared the list. `held_out`: the share of units that a split has set apart, if
    this is one of its parts. The repr shows no record.
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
    confirmed: bool = False
    few: dict[str, int] = field(default_factory=dict, repr=False)
    held_out: float | None = None
    array: np.ndarray | None = field(default=None, repr=False)  # uint8 [n, H, W] or [n, H, W, 3]
    # How stored values become grey levels, as the owner declared. What the ledger knows records
    # by does not follow from it: whatever is declared, the same pictures are the same pictures.
    values: Values = FIXED
    # place in the source -> encoded image file
    read: Callable[[int], bytes] | None = field(default=None, repr=False)
    # int64 [n] slot -> place in the source; None: the same
    place: np.ndarray | None = field(default=None, repr=False)

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
        """uint8 [k, R, R, 3] RGB of the slots `indices`; zeros where `load` finds none."""
        return self.load(indices, resolution)[0]

    def load(self, indices, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of the slots `indices`, uint8 [k, R, R, 3] RGB, and whether they are as indexed.

        The latter is bool [k]. Square centre crop, then Lanczos. Array records at most 4 px smaller
        than R get a border of their own background instead. Zeros and False for an unusable slot,
        and for one that has changed or vanished since: after a charge no record ends a run, and
        nothing that the ledger did not see is trained on.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        out = np.zeros((len(indices), resolution, resolution, 3), np.uint8)
        good = np.zeros(len(indices), bool)
        if self.array is not None:
            self._from_array(self.array, indices, out, good)
            return out, good
        # In file order: parquet row groups are read once each.
        rows = [
            int(row)
            for row in np.argsort(self._place(indices), kind="stable")
            if self.usable[indices[row]]
        ]
        read = hand_over(
            lambda row: self._bytes(int(indices[row])),
            rows,
            resolution,
            self.values,
            lambda row: self._frame(int(indices[row])),
            lambda row: self._box(int(indices[row])),
        )
        for row, pixels in read:
            if pixels is not None:
                out[row], good[row] = pixels, True
        return out, good

    def _from_array(
        self, array: np.ndarray, indices: np.ndarray, out: np.ndarray, good: np.ndarray
    ) -> None:
        resolution, (height, width) = out.shape[1], array.shape[1:3]
        rows = np.flatnonzero(self.usable[indices])
        block = as_rgb(array[self._place(indices[rows])])
        if self.values == FIXED:  # else it is a copy of ours, which nobody else can change
            known = [self.fingerprints[slot] for slot in indices[rows]]
            same = [found == print_ for found, print_ in zip(fingerprints(block), known)]
            rows, block = rows[same], block[same]
        good[rows] = True
        if height == width and 0 <= resolution - height <= PAD_AT_MOST:
            out[rows] = bordered(block, resolution)
        else:
            for row, pixels in zip(rows, block):
                out[row] = fit(pixels, resolution, pad=True)

    @property
    def marks(self) -> Marks:
        """What a ledger knows slots by beside `fingerprints`.

        `files`: SHA-256 of each file's bytes, and `units`: of each unit's value. None if there are
        no files, or no unit column; b"" for an unusable slot. Private.
        """

        def of_usable(found: Sequence[bytes] | None) -> tuple[bytes, ...] | None:
            if found is None:
                return None
            return tuple(mark if use else b"" for mark, use in zip(found, self.usable))

        return {"files": of_usable(self.facts.seals), "units": of_usable(self.facts.units)}

    @cached_property
    def fingerprints(self) -> tuple[bytes, ...]:
        """SHA-256 of each slot's pixels by the fixed rules at its own size; private.

        b"" where unusable.
        """
        if self.facts.prints is not None:
            return tuple(p if use else b"" for p, use in zip(self.facts.prints, self.usable))
        assert self.array is not None  # what has files was indexed with its prints
        found: list[bytes] = []
        for start in range(0, self.n, 1024):
            slots = np.arange(start, min(self.n, start + 1024))
            found += fingerprints(as_rgb(self.array[self._place(slots)]))
        return tuple(p if use else b"" for p, use in zip(found, self.usable))

    def rearranged(self, order: np.ndarray) -> RecordSet:
        """The same records with slot i holding what slot order[i] held.

        Units are numbered by first appearance again. `order` int64 [n] is a permutation. Pixels
        stay where they are.
        """
        order = np.asarray(order, np.int64)
        facts, prints = self.facts, self.fingerprints
        _, first, number = np.unique(self.unit[order], return_index=True, return_inverse=True)
        return replace(
            self,
            labels=self.labels[order],
            unit=np.argsort(np.argsort(first))[number].astype(np.int64),
            usable=self.usable[order],
            captions=None if self.captions is None else tuple(self.captions[i] for i in order),
            facts=replace(
                facts,
                sizes=None if facts.sizes is None else facts.sizes[order],
                exif=None if facts.exif is None else facts.exif[order],
                stored=None if facts.stored is None else facts.stored[order],
                rules=tuple(facts.rules[i] for i in order) if facts.rules else (),
                table={},
                prints=tuple(prints[i] for i in order),
                shown=None if facts.shown is None else tuple(facts.shown[i] for i in order),
                seals=None if facts.seals is None else tuple(facts.seals[i] for i in order),
                units=None if facts.units is None else tuple(facts.units[i] for i in order),
            ),
            place=self._place(order),
        )

    @property
    def reading_order(self) -> np.ndarray:
        """The slots in the order of the source, int64 [n].

        A parquet row group is then read once, not for every batch.
        """
        return np.argsort(self._place(np.arange(self.n)), kind="stable")

    def _place(self, slots: np.ndarray) -> np.ndarray:
        return slots if self.place is None else self.place[slots]

    def pixels(self, slot: int) -> np.ndarray | None:
        """Canonical pixels uint8 [H, W, 3] of one slot at its own size.

        None when its file is not the one that was indexed.
        """
        if self.array is not None:
            place = int(self._place(np.array(slot)))
            return as_rgb(self.array[place : place + 1])[0]
        read = hand_over(self._bytes, [slot], values=self.values, frame=self._frame, box=self._box)
        return dict(read)[slot]

    def _frame(self, slot: int) -> int:
        """Which frame of its file a slot is; PLAIN for a source that has no files."""
        of: Callable[[int], int] | None = getattr(self.read, "frame", None)
        return PLAIN if of is None else of(int(self._place(np.array(slot))))

    def _box(self, slot: int) -> Box:
        """Which part of its picture a slot is; WHOLE for all of it."""
        of: Callable[[int], Box] | None = getattr(self.read, "box", None)
        return WHOLE if of is None else of(int(self._place(np.array(slot))))

    def _bytes(self, slot: int) -> bytes:
        """The encoded file of one slot.

        BadImage when it is not the one that was indexed: others are not decoded at all.
        """
        assert self.read is not None and self.facts.seals is not None  # as all that has files
        data = self.read(int(self._place(np.array(slot))))
        if seal(data) != self.facts.seals[slot]:
            raise BadImage(CHANGED)
        return data

    def digest(self, key: bytes, as_before: bool = False) -> str:
        """The identity of these data, independent of the file format.

        Hex HMAC-SHA256 under `key` of pixels by the fixed rules, labels, units and captions in slot
        order, of what was declared of stored values, and of the pixels as training sees them where
        they do not follow from these: other grey levels are other data to a replay.

        Args:
            key: At least 16 bytes; ValueError for fewer.
            as_before: Without the last, as earlier versions made it.
        """
        if len(key) < 16:
            raise ValueError("digest needs a key of at least 16 bytes")
        mac = hmac.new(key, digestmod=hashlib.sha256)
        for name in self.classes:
            mac.update(hashlib.sha256(name.encode()).digest())
        for slot in range(self.n):
            mac.update(self.fingerprints[slot] or bytes(32))
            if self.captions is not None:
                mac.update(
                    hashlib.sha256(self.captions[slot].encode("utf-8", "surrogatepass")).digest()
                )
        mac.update(self.labels.astype("<i8").tobytes() + self.unit.astype("<i8").tobytes())
        mac.update(self.usable.astype(np.uint8).tobytes())
        if self.values != FIXED:  # nothing more before: runs of earlier versions resume
            mac.update(json.dumps(self.values.given(), sort_keys=True).encode())
        for shown in () if as_before else self.facts.shown or ():
            mac.update(shown or bytes(32))
        return mac.hexdigest()
