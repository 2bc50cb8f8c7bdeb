"""Near-copies: which pictures of two sets, or of one, look the same. PRIVATE where they are.

Nothing is filtered by what is found here, and no plan follows from it: it is for the owner's eyes.
The thresholds were chosen on public pictures (docs/data.md#near-copies, benchmarks/near.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .looks import Looks, bits_of, mirrored, unit

# Correlations of small pictures from which two are near-copies; in a set whose pictures are all
# much alike, such as digits, only from STRICT.
CLEAR, STRICT = 0.97, 0.995
ORDINARY = 0.90  # from here to CLEAR two pictures are merely alike
# Share of pictures with an ordinary look-alike, and ordinary pairs to one of CLEAR, from which a
# set is too much alike for CLEAR: the latter does not grow with the set, as the former does.
TOO_ALIKE, TOO_MANY = 0.2, 3
# Bits in which a hash may differ from a known one: what CLEAR and STRICT come to (`looks.bits_of`).
CLEAR_BITS, ORDINARY_BITS, STRICT_BITS = 16, 27, 6
ENOUGH = 0.01  # share of the pictures that is enough to warn
BLOCK = 2048  # pictures that are compared with as many others at once
MOST = 20_000  # pairs that are kept, the most alike


@dataclass(frozen=True, eq=False)
class Pairs:
    """Several pairs: places int64 [k], correlations float32 [k], mirrored bool [k]."""

    first: np.ndarray
    second: np.ndarray
    likeness: np.ndarray
    mirror: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def at(self, chosen: np.ndarray) -> Pairs:
        """Those of a mask or of places."""
        return Pairs(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


NO_PAIRS = Pairs(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float32, np.bool_)))


@dataclass
class Tally:
    """What a search found, added up as it goes, so that memory does not grow with the pairs.

    Attributes:
        groups: int64 [n] of the first set's pictures, and of the second's where it is the first:
            the unit that owns each, or a number below 0 for a picture of several units.
        clear: bool [2, n]: the pictures of the first set that have a near-copy, by CLEAR and by
            STRICT.
        apart: bool [2, n]: the same for near-copies of another unit.
        ordinary: bool [n], with an ordinary look-alike.
        ordinary_pairs: How many pairs are merely alike.
        clear_pairs: How many are near-copies by CLEAR.
        pairs: The most alike that were seen.
    """

    groups: np.ndarray
    within: bool
    floor: float = CLEAR
    pairs: Pairs = NO_PAIRS
    ordinary_pairs: int = 0
    clear_pairs: int = 0
    clear: np.ndarray = field(init=False)
    apart: np.ndarray = field(init=False)
    ordinary: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.groups)
        self.clear, self.apart = np.zeros((2, n), bool), np.zeros((2, n), bool)
        self.ordinary = np.zeros(n, bool)

    def add(self, found: Pairs) -> None:
        """Pairs of at least ORDINARY."""
        alike = found.at(found.likeness < CLEAR)
        self.ordinary_pairs += len(alike)
        self.clear_pairs += len(found) - len(alike)
        self.ordinary[alike.first] = True
        if self.within:
            self.ordinary[alike.second] = True
        for row, floor in enumerate((CLEAR, STRICT)):
            near = found.at(found.likeness >= floor)
            self._mark(self.clear[row], near)
            if self.within:
                ours, theirs = self.groups[near.first], self.groups[near.second]
                self._mark(self.apart[row], near.at((ours != theirs) | (ours < 0)))
        self._keep(found.at(found.likeness >= self.floor))

    def _mark(self, seen: np.ndarray, near: Pairs) -> None:
        seen[near.first] = True
        if self.within:
            seen[near.second] = True

    def _keep(self, near: Pairs) -> None:
        if len(near):
            both = zip(*(vars(pairs).values() for pairs in (self.pairs, near)))
            kept = Pairs(*(np.concatenate(parts) for parts in both))
            if len(kept) > 2 * MOST:
                order = np.argsort(-kept.likeness, kind="stable")[:MOST]
                kept, self.floor = kept.at(order), float(kept.likeness[order[-1]])
            self.pairs = kept

    @property
    def alike(self) -> float:
        """Share of the pictures that have an ordinary look-alike."""
        return float(self.ordinary.mean()) if len(self.ordinary) else 0.0

    @property
    def strict(self) -> bool:
        """Whether so many are merely alike that CLEAR would be met by chance."""
        return self.alike > TOO_ALIKE or self.ordinary_pairs > TOO_MANY * self.clear_pairs > 0


def search(first: Looks, second: Looks | None = None) -> Iterator[Pairs]:
    """Every pair of at least ORDINARY, block by block; within one set where `second` is None.

    All pairs are compared, as they are and mirrored, in each view; of a pair the best counts. Plain
    pictures are in no pair.
    """
    other = first if second is None else second
    for start in range(0, len(first), BLOCK):
        for after in range(start if second is None else 0, len(other), BLOCK):
            best = _correlations(first, other, start, after)
            likeness = np.maximum(best[0], best[1])
            likeness[first.plain[start : start + BLOCK]] = 0
            likeness[:, other.plain[after : after + BLOCK]] = 0
            rows, columns = np.nonzero(likeness >= ORDINARY)
            if second is None and start == after:
                rows, columns = rows[rows < columns], columns[rows < columns]
            if len(rows):
                flat = rows, columns
                yield Pairs(
                    rows + start, columns + after, likeness[flat], best[1][flat] > best[0][flat]
                )


def _correlations(first: Looks, other: Looks, start: int, after: int) -> list[np.ndarray]:
    """Best correlations over the views, float32 [k, m]: as they are, and mirrored."""
    best: list[np.ndarray] = []
    for view in range(max(first.views, other.views)):
        ours = unit(first.small[start : start + BLOCK, min(view, first.views - 1)])
        theirs = other.small[after : after + BLOCK, min(view, other.views - 1)]
        turned = [ours @ unit(theirs).T, ours @ unit(mirrored(theirs)).T]
        best = [np.maximum(*two) for two in zip(best, turned)] if best else turned
    return best


def search_known(looks: Looks, known: np.ndarray) -> Iterator[Pairs]:
    """The same against hashes uint64 [m, 3] of a base's training pictures.

    `likeness` is what the share of differing bits says of the correlation.
    """
    for start in range(0, len(looks), BLOCK):
        small = looks.small[start : start + BLOCK, 0]
        hashes = bits_of(small), bits_of(mirrored(small))
        least, where = [], []
        for own in hashes:
            apart, at = _nearest(own, known)
            least.append(apart)
            where.append(at)
        mirror = least[1] < least[0]
        apart = np.minimum(*least)
        rows = np.flatnonzero((apart <= ORDINARY_BITS) & ~looks.plain[start : start + BLOCK])
        second = np.where(mirror, where[1], where[0])[rows]
        yield Pairs(rows + start, second, _likeness(apart[rows]), mirror[rows])


def _nearest(own: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fewest differing bits int [k] of each hash to a known one, and which one that is."""
    least, at = np.full(len(own), 255, np.uint8), np.zeros(len(own), np.int64)
    for start in range(0, len(known), BLOCK):
        part = known[start : start + BLOCK]
        apart = np.zeros((len(own), len(part)), np.uint8)
        for word in range(known.shape[1]):
            apart += np.bitwise_count(own[:, None, word] ^ part[None, :, word])
        nearest = apart.argmin(1)
        fewest = apart[np.arange(len(own)), nearest]
        at = np.where(fewest < least, nearest + start, at)
        least = np.minimum(least, fewest)
    return least, at


def _likeness(apart: np.ndarray) -> np.ndarray:
    """Bits that differ as a correlation on the scale of CLEAR and STRICT."""
    steps = [0, STRICT_BITS, CLEAR_BITS, ORDINARY_BITS]
    return np.interp(apart, steps, [1.0, STRICT, CLEAR, ORDINARY]).astype(np.float32)
