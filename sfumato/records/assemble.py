"""Labels, units and usable slots from raw columns; every bad record is counted by its rule."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import DataError, SfumatoError
from .bounded import look
from .recordset import Facts


def class_list(names: Sequence[str | None], declared: Sequence[str] | None) -> tuple[str, ...]:
    """The declared classes, or those found (numbers by size). Raises SfumatoError for an empty or doubled list."""
    if declared is not None:
        classes = tuple(str(name).strip() for name in declared)
        if not classes or "" in classes or len(set(classes)) < len(classes):
            raise SfumatoError(
                "the class list is empty, has an empty name or names a class twice: give --classes a,b,c"
            )
        return classes
    found = {name for name in names if name is not None}
    if not found:
        raise DataError("no record has a label: fill the label column, or say --unlabelled")
    return tuple(
        sorted(found, key=lambda name: (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name))
    )


LONE = "the only record of its class"
UNKNOWN = "label not in the class list"


def without_lone_classes(
    names: Sequence[str | None], classes: tuple[str, ...], rules: list[str | None]
) -> tuple[str, ...]:
    """Found classes less those of a single record: publishing such a class would publish that record's presence."""
    counts = Counter(names)
    for slot, name in enumerate(names):
        if name is not None and counts[name] == 1:
            rules[slot] = rules[slot] or LONE
    kept = tuple(name for name in classes if counts[name] > 1)
    if not kept:
        raise DataError("every class has one record: declare the public class list with --classes a,b,c")
    return kept


def number_labels(names: Sequence[str | None], classes: tuple[str, ...], rules: list[str | None]) -> np.ndarray:
    """int64 [n] indices into `classes`, -1 for a missing or undeclared label, whose rule goes into `rules`."""
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in names], np.int64)
    for slot in np.flatnonzero(labels < 0):
        rules[slot] = rules[slot] or ("missing label" if names[slot] is None else UNKNOWN)
    return labels


def number_units(names: Sequence[str | None] | None, n: int, rules: list[str | None]) -> np.ndarray:
    """int64 [n] unit numbers in order of first appearance; a record without a unit is a zero slot and its own unit."""
    if names is None:
        return np.arange(n, dtype=np.int64)
    # One spelling per person: composed and decomposed accents must not make two units of one.
    names = [None if name is None else unicodedata.normalize("NFC", name) for name in names]
    number: dict = {}
    for slot, name in enumerate(names):
        if name is None:
            rules[slot] = rules[slot] or "missing unit"
        number.setdefault(("slot", slot) if name is None else name, len(number))
    return np.array([number[("slot", slot) if name is None else name] for slot, name in enumerate(names)], np.int64)


def index_files(read: Callable[[int], bytes], rules: list[str | None]) -> dict:
    """Decode every slot once, in a process of its own, and note what it holds; broken rules go into `rules`."""
    n = len(rules)
    sizes, exif, prints, seals = np.zeros((n, 2), np.int64), np.zeros(n, bool), [b""] * n, [b""] * n
    thumbnails = np.zeros((n, 64), np.uint8)
    for slot, seen in look(read, n):
        if isinstance(seen, str):
            rules[slot] = rules[slot] or seen
            continue
        sizes[slot], exif[slot], thumbnails[slot] = seen.size, seen.exif, seen.thumbnail
        prints[slot], seals[slot] = seen.print, seen.seal
    return {"sizes": sizes, "exif": exif, "prints": tuple(prints), "seals": tuple(seals), "thumbnails": thumbnails}


def judge(rules: list[str | None], max_bad: float, classes: tuple[str, ...]) -> tuple[np.ndarray, dict[str, int]]:
    """(usable bool [n], bad records by rule). Raises DataError for none, or more than `max_bad` bad records."""
    n, bad = len(rules), dict(Counter(rule for rule in rules if rule))
    if not classes:
        raise SfumatoError("the class list is empty: give --classes a,b,c")
    if n == 0:
        raise DataError(
            "empty: there is no record here; give class folders, metadata.csv with its images, parquet, idx or npz"
        )
    usable = np.array([rule is None for rule in rules])
    wrong = n - int(usable.sum()) - bad.get(LONE, 0)
    if wrong == n or wrong > max_bad * n:
        counts = ", ".join(f"{rule}: {count}" for rule, count in sorted(bad.items(), key=lambda item: -item[1]))
        cure = "repair them" if wrong == n else f"repair or remove them, or raise --max-bad above {wrong / n:.3g}"
        if bad.get(UNKNOWN) and wrong != n:
            cure = f"correct --classes, {cure}"
        elif bad.get(UNKNOWN):
            cure = "correct --classes, or repair them"
        raise DataError(f"{wrong} of {n} records are bad ({counts}): {cure}")
    return usable, bad


def facts_of(bad: dict[str, int], **known) -> Facts:
    """Facts with plain dictionaries, whatever counters they were collected in."""
    known["ignored"] = {reason: int(count) for reason, count in known.get("ignored", {}).items() if count}
    return Facts(bad=bad, **known)
