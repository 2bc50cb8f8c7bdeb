"""Labels, units and usable slots from raw columns; every bad record is counted by its rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, SfumatoError
from ..options import Values
from .bounded import look
from .coded import Digests
from .levels import STORED
from .pictures import Box
from .recordset import Facts
from .rules import NO_RANGE, NOT_IN_ONE, UNKNOWN, refuse
from .spelling import loose, unit_digest, unit_value

FEW = 3
"""Units that a class read off the data has at least, or the owner is asked whether its name may be
published at all.

With fewer than three, whoever knows one unit of the class learns from its name that a certain other
one is there: the smallest cell that statistical offices publish. It is no guarantee, and none is
claimed: whether the list is public is for the owner to say.
"""


def class_list(names: Sequence[str | None], listed: Sequence[str] | None) -> tuple[str, ...]:
    """The list that was declared or came with a file, or the names found (numbers by size).

    SfumatoError for an empty list or a duplicate.
    """
    if listed is not None:
        classes = tuple(str(name).strip() for name in listed)
        if not classes or "" in classes or len(set(classes)) < len(classes):
            raise SfumatoError(
                "the class list is empty, has an empty name or names a class twice: give --classes"
                " a,b,c"
            )
        return classes
    found = {name for name in names if name is not None}
    if not found:
        raise DataError("no record has a label: fill the label column, or use --unlabelled")
    return tuple(
        sorted(
            found,
            key=lambda name: (
                (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)
            ),
        )
    )


def apart_from_few(
    labels: np.ndarray, classes: tuple[str, ...], unit: np.ndarray, usable: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], dict[str, int]]:
    """Labels and a found list without the classes of few units, and these with their counts.

    Few: fewer than FEW units with a usable record. Their records keep slot and weight; only their
    label is -1. It is for looking at: `prepare` refuses such a set.
    """
    number = {i: len(np.unique(unit[usable & (labels == i)])) for i in range(len(classes))}
    kept = [i for i in number if number[i] >= FEW]
    new = np.full(len(classes) + 1, -1, np.int64)  # the last is for -1
    new[kept] = np.arange(len(kept))
    few = {classes[i]: count for i, count in number.items() if count < FEW}
    return new[labels], tuple(classes[i] for i in kept), few


def number_labels(
    names: Sequence[str | None], classes: tuple[str, ...], rules: list[str | None]
) -> np.ndarray:
    """int64 [n] indices into `classes`, -1 for a missing or undeclared label.

    The rule that such a record breaks goes into `rules`.
    """
    number: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in names], np.int64)
    for slot in np.flatnonzero(labels < 0).tolist():
        rules[slot] = rules[slot] or ("missing label" if names[slot] is None else UNKNOWN)
    return labels


@dataclass(frozen=True)
class Units:
    """The privacy units of a source.

    int64 [n] unit numbers in order of first appearance; SHA-256 of every slot's value (None without
    a column), b"" where missing; spellings that were taken for another value's, and values that
    might be another spelling of another.
    """

    number: np.ndarray
    prints: tuple[bytes, ...] | None = None
    respelt: int = 0
    doubtful: int = 0


def number_units(
    names: Sequence[str | None] | None,
    n: int,
    rules: list[str | None],
    same: np.ndarray | None = None,
) -> Units:
    """Units from a column; values of equal `unit_value` are one.

    A record without a unit is a zero slot and its own unit. `same`: where there is no column, equal
    numbers are one picture, and so one unit.
    """
    if names is None:
        if same is None:
            return Units(np.arange(n, dtype=np.int64))
        _, first, number = np.unique(same, return_index=True, return_inverse=True)
        return Units(np.argsort(np.argsort(first))[number].astype(np.int64))
    of: dict[str | None, int] = {}  # spelling -> unit, -1 for one that shows nothing
    units: dict[str, int] = {}  # value -> unit
    found, count = np.zeros(n, np.int64), 0
    for slot, name in enumerate(names):
        if name not in of:
            value = unit_value(name) if name is not None else ""
            key = name if name is not None and name == value else value
            own = units.setdefault(key, count) if value else -1
            of[name], count = own, max(count, own + 1)
        unit = of[name]
        if unit < 0:
            rules[slot] = rules[slot] or "missing unit"
            unit, count = count, count + 1
        found[slot] = unit
    prints = {unit: unit_digest(value) for value, unit in units.items()}
    shown = sum(unit >= 0 for unit in of.values())
    forms = np.fromiter((_short(loose(value)) for value in units), np.uint64, len(units))
    _, shared = np.unique(forms, return_counts=True)
    return Units(
        found,
        tuple(prints.get(unit, b"") for unit in found.data),  # no list of numbers beside it
        respelt=shown - len(units),
        doubtful=int(shared[shared > 1].sum()),
    )


def _short(value: str) -> int:
    """64 bits of a value's digest, which take less memory than the value."""
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def index_files(
    read: Callable[[int], bytes],
    rules: list[str | None],
    values: Values,
    frame: Callable[[int], int],
    box: Callable[[int], Box],
) -> dict[str, Any]:
    """Decodes every slot once, in a separate process, and notes what it holds.

    Broken rules go into `rules`. `values`: what was declared of stored values. `frame`, `box`:
    which of a file's frames, and which part of it, a slot is; see `bounded.look`.
    """
    n = len(rules)
    sizes, exif = np.zeros((n, 2), np.int32), np.zeros(n, bool)
    prints, seals, shown = Digests(n), Digests(n), Digests(n)
    stored = np.zeros(n, STORED)
    for slot, seen in look(read, n, values, frame, box):
        if isinstance(seen, str):
            rules[slot] = rules[slot] or seen
            continue
        sizes[slot], exif[slot] = seen.size, seen.exif
        prints[slot], seals[slot], stored[slot] = seen.print, seen.seal, seen.stored
        shown[slot] = seen.shown.strip(b"\0") and seen.shown
    return {
        "sizes": sizes,
        "exif": exif,
        "prints": prints,
        "seals": seals,
        "shown": shown if any(shown) else None,
        "stored": stored,
    }


def judge(
    rules: list[str | None],
    max_bad: float,
    classes: tuple[str, ...],
    refusals: list[str] | None = None,
) -> tuple[np.ndarray, dict[str, int]]:
    """(usable bool [n], bad records by rule).

    Raises DataError if no record is usable, or more than `max_bad` are bad; with `refusals` that
    goes there.
    """
    n, bad = len(rules), dict(Counter(rule for rule in rules if rule))
    if not classes:
        raise SfumatoError("the class list is empty: give --classes a,b,c")
    if n == 0:
        raise DataError(
            "no records found: give class folders, metadata.csv with its images,"
            " parquet, arrow, tar, zip, idx or npz"
        )
    usable = np.array([rule is None for rule in rules])
    wrong = n - int(usable.sum())
    if wrong == n or wrong > max_bad * n:
        counts = ", ".join(
            f"{rule}: {count}" for rule, count in sorted(bad.items(), key=lambda item: -item[1])
        )
        cure = (
            "repair them"
            if wrong == n
            else f"repair or remove them, or raise --max-bad above {wrong / n:.3g}"
        )
        if bad.get(UNKNOWN) and wrong != n:
            cure = f"correct --classes, {cure}"
        elif bad.get(UNKNOWN):
            cure = "correct --classes, or repair them"
        elif bad.get(NOT_IN_ONE) or bad.get(NO_RANGE):
            cure = f"declare their black and white with --range LO..HI or --window, or {cure}"
        cure += " (`sfumato inspect` names them)" * (refusals is None)
        refuse(f"{wrong} of {n} records are bad ({counts}): {cure}", refusals)
    return usable, bad


def facts_of(bad: dict[str, int], **known) -> Facts:
    """Facts with plain dictionaries, whatever counters they were collected in."""
    known["ignored"] = {
        reason: int(count) for reason, count in known.get("ignored", {}).items() if count
    }
    return Facts(bad=bad, **known)
