"""Private pictures compared with each other, with public ones and with a base's. PRIVATE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..options.progress import tell
from .columns import name_of
from .copies import ACROSS, BASE, BETWEEN, IN_SET, PUBLIC, NearCopies, Pair, Shared
from .looks import Looks, looks_of
from .near import STRICT, Pairs, Tally, search, search_known
from .recordset import RecordSet

TOLD = 64  # pictures after which somebody who listens hears how many are done


def looks_at(records: RecordSet, slots: np.ndarray, said: str) -> Looks:
    """The looks of some slots, in their order; one picture is held at a time.

    Files are decoded in the bounded process alone (`RecordSet.pixels`), in the order of the source.
    """
    order = np.argsort(slots if records.place is None else records.place[slots], kind="stable")
    found = looks_of(_pixels(records, slots[order], said), len(slots))
    back = np.argsort(order, kind="stable")
    return Looks(found.small[back], found.plain[back])


def _pixels(records: RecordSet, slots: np.ndarray, said: str) -> Iterator[np.ndarray | None]:
    for done, slot in enumerate(slots.tolist(), 1):
        if done % TOLD == 0:
            tell(said, done, len(slots))
        yield records.pixels(slot)


@dataclass(frozen=True, eq=False)
class _Distinct:
    """A set's different pictures.

    `slots`: one slot of each; `of`: which picture each slot holds, -1 for unusable ones; `unit`:
    the unit of each picture, -1 for one of several; `times`: how many slots hold it.
    """

    slots: np.ndarray
    of: np.ndarray
    unit: np.ndarray
    times: np.ndarray

    @classmethod
    def of_set(cls, records: RecordSet) -> _Distinct:
        usable = np.flatnonzero(records.usable)
        prints = np.array([records.fingerprints[slot] for slot in usable], dtype="S32")
        _, first, number = np.unique(prints, return_index=True, return_inverse=True)
        of = np.full(records.n, -1)
        of[usable] = number
        units = records.unit[usable]
        unit = units[first] if len(first) else np.zeros(0, np.int64)
        several = np.unique(number[units != unit[number]])
        unit = unit.copy()
        unit[several] = -1
        return cls(usable[first], of, unit, np.bincount(number, minlength=len(first)))

    def marked(self, pictures: np.ndarray) -> np.ndarray:
        """The slots that hold a picture of a mask, bool [n]."""
        out = np.zeros(len(self.of), bool)
        held = self.of >= 0
        out[held] = pictures[self.of[held]]
        return out


def near_copies(
    records: RecordSet, public: RecordSet | None = None, known: np.ndarray | None = None
) -> NearCopies:
    """Looks for near-copies of private pictures in their set, in public data and in a base.

    For the owner's eyes: nothing is filtered, and neither `plan` nor `adapt` calls it.

    Args:
        records: The private images.
        public: Images that are meant as `--public-data`.
        known: Hashes of a base's training pictures (`looks.load_known`).
    """
    distinct = _Distinct.of_set(records)
    looks = looks_at(records, distinct.slots, "looking for near-copies")
    tally = Tally(distinct.unit, within=True)
    for pairs in search(looks):
        tally.add(pairs)
    strict = tally.strict
    row, repeated = int(strict), distinct.times > 1
    apart = tally.apart[row] | (distinct.unit < 0)
    inside = tally.pairs.at(tally.pairs.likeness >= STRICT) if strict else tally.pairs
    listed = [*_equal(records, distinct), *_inside(records, distinct, inside)]
    shared: dict[str, Shared] = {}
    if public is not None:
        others = _Distinct.of_set(public)
        theirs = looks_at(public, others.slots, "looking for near-copies in the public data")
        found, close = _with(looks, search(looks, theirs), strict)
        equal = np.isin(_prints(records, distinct), _prints(public, others))
        shared["public"] = _shared(records, distinct, found | equal, close)
        listed += _beside(records, distinct, close[1], PUBLIC, (public, others))
    if known is not None:
        found, close = _with(looks, search_known(looks, known), strict)
        shared["base"] = _shared(records, distinct, found, close)
        listed += _beside(records, distinct, close[1], BASE, None)
    return NearCopies(
        int(records.usable.sum()),
        int(distinct.marked(looks.plain).sum()),
        records.unit_column,
        tally.alike,
        strict,
        int(distinct.marked(tally.clear[row] | repeated).sum()),
        _shared(records, distinct, apart, (strict, inside)),
        shared.get("public"),
        shared.get("base"),
        tuple(sorted(listed, key=lambda pair: (-pair.likeness, pair.kind, pair.slot, pair.other))),
    )


def _prints(records: RecordSet, distinct: _Distinct) -> np.ndarray:
    return np.array([records.fingerprints[slot] for slot in distinct.slots], dtype="S32")


def _with(
    looks: Looks, found: Iterator[Pairs], strict: bool
) -> tuple[np.ndarray, tuple[bool, Pairs]]:
    """Pictures that stand elsewhere, whether only nearly equal ones count, and the pairs."""
    tally = Tally(np.arange(len(looks)), within=False)
    for pairs in found:
        tally.add(pairs)
    strict = strict or tally.strict
    pairs = tally.pairs
    return tally.clear[int(strict)], (
        strict,
        pairs.at(pairs.likeness >= STRICT) if strict else pairs,
    )


def _shared(
    records: RecordSet, distinct: _Distinct, pictures: np.ndarray, close: tuple[bool, Pairs]
) -> Shared:
    held = distinct.marked(pictures)
    return Shared(int(held.sum()), len(np.unique(records.unit[held])), close[0])


def _name(records: RecordSet, slot: int) -> str:
    """The file, key or row of a slot, for the owner's private lists."""
    return name_of(records, slot if records.place is None else int(records.place[slot]))


def _equal(records: RecordSet, distinct: _Distinct) -> Iterator[Pair]:
    """The equal pictures, each beside the first that holds it."""
    for slot in np.flatnonzero(distinct.of >= 0).tolist():
        picture = distinct.of[slot]
        first = int(distinct.slots[picture])
        if slot != first:
            kind = _kind(records, records.unit[slot] == records.unit[first])
            yield _pair(kind, 1.0, False, records, first, records, slot)


def _kind(records: RecordSet, one_unit: bool) -> str:
    if records.unit_column is None:
        return BETWEEN
    return IN_SET if one_unit else ACROSS


def _inside(records: RecordSet, distinct: _Distinct, pairs: Pairs) -> Iterator[Pair]:
    for first, second, likeness, mirror in _rows(pairs):
        units = distinct.unit[[first, second]]
        kind = _kind(records, units[0] == units[1] >= 0)
        one, other = sorted(distinct.slots[[first, second]].tolist())
        yield _pair(kind, likeness, mirror, records, one, records, other)


def _beside(
    records: RecordSet,
    distinct: _Distinct,
    pairs: Pairs,
    kind: str,
    other: tuple[RecordSet, _Distinct] | None,
) -> Iterator[Pair]:
    for first, second, likeness, mirror in _rows(pairs):
        slot = int(distinct.slots[first])
        if other is None:
            yield Pair(kind, likeness, mirror, slot, second, _name(records, slot), "")
        else:
            theirs = int(other[1].slots[second])
            yield _pair(kind, likeness, mirror, records, slot, other[0], theirs)


def _rows(pairs: Pairs) -> Iterator[tuple[int, int, float, bool]]:
    columns = (pairs.first, pairs.second, pairs.likeness, pairs.mirror)
    yield from zip(*(column.tolist() for column in columns))


def _pair(
    kind: str, likeness: float, mirror: bool, ours: RecordSet, slot: int, theirs: RecordSet, at: int
) -> Pair:
    return Pair(kind, likeness, mirror, slot, at, _name(ours, slot), _name(theirs, at))
