"""U, before the loop and between runs, on dummy data.

What one unit decides of the class list, and what several runs mean by a unit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.runs import RunLedger
from ..records import load_records
from .finding import Finding, Notes

NAMES = ("many", "some", "one")
LABELS = np.array([0] * 5 + [1] * 3 + [2])
PEOPLE = "aabcd" + "efg" + "h"  # of `many` four units, of `some` three, of `one` one


def class_lists(seed: int) -> Finding:
    """U: with one unit gone, the labels of all others stay, or the found list stops the run.

    Names in a file are found.
    """
    notes = Notes()
    pixels = np.random.default_rng(seed).random((len(LABELS), 8, 8))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "images.npz"
        for gone in sorted(set(PEOPLE)):
            seen = pixels.copy()
            seen[[who == gone for who in PEOPLE]] = np.nan  # replaced by nothing
            np.savez(path, images=seen, labels=LABELS, unit=list(PEOPLE), classes=NAMES)
            others = np.array([who != gone for who in PEOPLE])
            readings: dict[str, dict[str, Any]] = {
                "declared": {"classes": list(NAMES)},
                "confirmed": {"yes_public": True},
                "found": {},
            }
            for what, reading in readings.items():
                now = load_records(path, max_bad=1.0, **reading)
                notes.numbers += 1
                notes.expect(
                    now.classes_found == (what != "declared"),
                    f"a list that is {what} passes for another kind",
                )
                if what == "found":
                    notes.expect(
                        "one" in now.few,
                        "a class of one unit is in a list that nobody has declared",
                    )
                    continue
                notes.expect(
                    now.classes == NAMES and not now.few,
                    f"a class leaves the {what} list by a count",
                )
                same = bool(
                    np.array_equal(now.labels[others], LABELS[others]) and now.usable[others].all()
                )
                notes.expect(same, f"without unit {gone} others lose label or weight (list {what})")
    return notes.finding(
        "U",
        "class lists",
        sees="any label of others that follows one unit; any class of one unit that is not told",
    )


def partitions(seed: int) -> Finding:
    """U: runs on the same images or units join, and add up only if they mean the same units.

    Otherwise they have no total.
    """
    notes, spoken = Notes(), np.random.default_rng(seed)
    first = ("abcd", "ppqq")
    cases: dict[str, tuple[tuple[str, str], float | None]] = {
        "the same": (("abcd", "ppqq"), 2.0),
        "other images of a unit": (("ef", "pr"), 2.0),
        "renamed": (("abcd", "xxyy"), 2.0),
        "a unit cut in two": (("abcd", "pxqq"), None),
        "an image moved": (("abcd", "pqqq"), None),
        "strangers": (("ef", "xy"), 1.0),
    }
    for what, (second, right) in cases.items():
        salt = spoken.bytes(8)
        with tempfile.TemporaryDirectory() as place:
            ledger = Ledger(Path(place) / "ledger.sqlite")
            _charge(ledger, "one", *first, salt)
            total = _charge(ledger, "two", *second, salt)
            ledger.close()
        notes.numbers += 1
        notes.expect(total == right, f"{what}: the total is {total} where {right} is right")
    return notes.finding(
        "U", "units of several runs", sees="a partition, a unit or an image that is not recognised"
    )


def _charge(ledger: Ledger, run: str, images: str, units: str, salt: bytes) -> float | None:
    RunLedger(ledger, run).append("PLAN", {})
    events = [{"type": "gaussian", "noise_multiplier": 2.0, "count": 1}]
    body = {
        "events": events,
        "epsilon": 1.0,
        "unit": "patient",
        "relation": "zero-out",
        "delta": 1e-5,
    }
    known = ledger.identify(
        [salt + i.encode() for i in images], None, [salt + u.encode() for u in units]
    )
    return ledger.charge(run, known, body, lambda charges, released: float(len(charges))).body[
        "total"
    ]
