"""What stored values and columns look like over the set, for the owner's eyes.

A proposal is private: it may follow from every record. Taking it is the owner's declaration, and it
is recorded as one that may have been read off the data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from ..options import Values
from .levels import STORED
from .recordset import RecordSet
from .spelling import unit_value

FLAT = 16  # levels of 256 below which a picture is nearly one tone
MOST_SIZES = 4
_FILES = ("file_name", "image", "images")  # columns that hold the pictures
KINDS = {1: "1-bit", 8: "8-bit"}
_UNITS = re.compile(
    r"patient|person|people|subject|participant|proband|donor|user|author|artist|owner|famil"
    r"|household|client|customer|student|case|unit|study|accession|^(mrn|pid|name)$|(^|_)id$",
    re.IGNORECASE,
)
_LABELS = re.compile(
    r"(label|class|category|diagnos|finding|species|target|type|dx)", re.IGNORECASE
)
_CAPTIONS = re.compile(r"(caption|text|prompt|description|report|title)", re.IGNORECASE)


def stored_of(records: RecordSet) -> np.ndarray:
    """`levels.STORED` of each record that could be decoded."""
    facts = records.facts
    if facts.stored is not None:
        seen = facts.stored
        return seen[seen["bits"] > 0]
    array = records.array
    out = np.zeros(0 if array is None else records.n, STORED)
    if array is None or not array.size:
        return out
    places = np.arange(len(array)) if records.place is None else records.place
    for at in range(0, len(places), 1024):
        block = array[places[at : at + 1024]]
        rows = block.reshape(len(block), -1)
        out["low"][at : at + 1024], out["high"][at : at + 1024] = rows.min(1), rows.max(1)
    out["bits"], out["colour"] = 8, array.ndim == 4
    out["dark"], out["bright"] = out["low"], out["high"]
    return out


def values_said(stored: np.ndarray, values: Values) -> list[str]:
    """Which values are stored, how many records of each kind, and what training sees."""
    out: list[str] = []
    for bits, colour in sorted({(int(s["bits"]), bool(s["colour"])) for s in stored}):
        some = stored[(stored["bits"] == bits) & (stored["colour"] == colour)]
        kind = KINDS.get(bits, f"{bits}-bit") + (" colour" if colour else " grey")
        low, high = some["low"].min(), some["high"].max()
        out.append(f"stored values: {kind} in {len(some):,}, from {low:.6g} to {high:.6g}")
    if len(stored):
        declared = values.said or "by the type of each file or array alone, nothing declared"
        dark, bright = np.median(stored["dark"]), np.median(stored["bright"])
        out.append(
            f"range: {declared}; a usual picture then spans {dark:.0f} to {bright:.0f} of 255"
        )
    own = int(stored["window"].sum()) if len(stored) else 0
    if own:
        out.append(
            f"window: {own:,} DICOM pictures by the first window that each file brings; --window"
            " CENTRE/WIDTH declares one for all"
        )
    return out


def sizes_said(records: RecordSet, side: int | None) -> list[str]:
    """The commonest sizes, and how many are smaller than a base's `side`."""
    sizes = records.facts.sizes
    if sizes is None or not records.usable.any():
        return []
    found = Counter(map(tuple, sizes[records.usable].tolist()))
    named = [f"{w}x{h} in {count:,}" for (w, h), count in found.most_common(MOST_SIZES)]
    rest = len(found) - len(named)
    more = f", and {rest:,} other sizes" if rest > 0 else ""
    out = [f"sizes: {', '.join(named)}{more}"]
    small = int((sizes[records.usable].min(1) < (side or 0)).sum())
    if small:
        out.append(f"{small:,} images are smaller than the base's {side} pixels and are enlarged")
    return out


def proposed_values(
    stored: np.ndarray, values: Values, modalities: int = 1
) -> list[tuple[str, str]]:
    """(What was seen over the set, options that would declare it): none where all is well.

    No range is proposed where one for all would be wrong for most: over files that bring a window
    of their own, or over several modalities of DICOM.
    """
    out: list[tuple[str, str]] = []
    if values.low is None:
        deep = stored[(stored["bits"] > 8) & ~stored["window"]]
        for said, flags in {_range_of(some) for some in _by_bits(deep)} - {None}:  # type: ignore[misc]
            out.append(_for_all(said, flags, int(stored["window"].sum()), modalities))
    else:
        out += _of_a_declared_range(stored, values)
    flat = stored["bright"].astype(int) - stored["dark"] < FLAT
    faded = flat & stored["clear"] & (stored["dark"] > 255 - FLAT)
    if faded.any() and values.background == "white":
        out.append(
            (
                f"{int(faded.sum()):,} pictures with transparency come out as white on white",
                "--background black",
            )
        )
    left = int((flat & ~faded).sum())
    if left:
        out.append((f"{left:,} pictures come out as nearly one tone", ""))
    return out


def _for_all(said: str, flags: str, own: int, modalities: int) -> tuple[str, str]:
    """What was seen, and its range if that may be declared for every file."""
    if not own and modalities < 2:
        return said, flags
    why = (
        f"{modalities} modalities lie together"
        if modalities > 1
        else f"{own:,} files bring a window of their own"
    )
    return (
        f"{said.removesuffix('?')}, but {why}, and one range or window would be for all of them:"
        " none is proposed; read one kind alone to declare its own",
        "",
    )


def _by_bits(stored: np.ndarray) -> list[np.ndarray]:
    return [stored[stored["bits"] == bits] for bits in np.unique(stored["bits"])]


def _range_of(stored: np.ndarray) -> tuple[str, str] | None:
    """What records of one type reach, and the range that usual instruments have then."""
    low, high, bits = float(stored["low"].min()), float(stored["high"].max()), stored["bits"][0]
    sixteen = bits == 16 and low >= 0 and high > 1 and high == int(high)
    seen = f"values reach {low:.6g} to {high:.6g} in {len(stored):,} {bits}-bit pictures"
    if sixteen and high > 0.5 * 65535 or not sixteen and 0 <= low and high <= 1:
        return None
    if 0 <= low and high <= 65535 and high == int(high):
        for usual in (8, 10, 12, 14, 15, 16):
            if high <= 2**usual - 1:
                ends = "0..255" if usual == 8 else f"{usual}bit"
                return f"{seen}: {usual}-bit data?", f"--range {ends}"
    if -1 <= low < 0 and high <= 1:
        return seen, "--range -1..1"
    if 0 <= low and high <= 255:
        return seen, "--range 0..255"
    hounsfield = " (Hounsfield units? a window such as --window 40/400)" if low < -500 else ""
    return seen + hounsfield, f"--range {math.floor(low)}..{math.ceil(high)}"


def _of_a_declared_range(stored: np.ndarray, values: Values) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    eight = int((stored["bits"] <= 8).sum())
    if eight and not values.applies_to(255):
        which = "every picture is" if eight == len(stored) else f"{eight:,} pictures are"
        out.append(
            (
                f"{which} of 8 bits, for which the declared range is not meant, and left as it is",
                "",
            )
        )
    clipped = int((stored["outside"] > 0.5).sum())
    if clipped:
        out.append(
            (
                f"{clipped:,} pictures have more than half of their values outside the declared"
                " range, where they are clipped",
                "",
            )
        )
    some = int((stored["outside"] > 0).sum())
    if some and not clipped:
        out.append((f"{some:,} pictures have values outside the declared range; clipped", ""))
    return out


def like_units(columns: Sequence[str]) -> list[str]:
    """Columns that may tell whose a picture is, by their names alone."""
    return [name for name in columns if name not in _FILES and _UNITS.search(name)]


def like_labels(columns: Sequence[str]) -> str | None:
    """The column that may hold the class, by the names alone: so called, or the only one left."""
    left = [n for n in columns if not (n in _FILES or _UNITS.search(n) or _CAPTIONS.search(n))]
    called = [name for name in left if _LABELS.search(name)]
    return called[0] if called else left[0] if len(left) == 1 else None


def columns_said(
    records: RecordSet, used: Collection[str | None] = (), captions: str | None = None
) -> list[str]:
    """What columns look like: labels, units or captions if not `used`; or several labels.

    Args:
        records: As read by somebody who looks.
        used: Columns that are read already.
        captions: The column of captions among them: its commas are a sentence's.
    """
    out: list[str] = []
    for name, cells in records.facts.table.items():
        if name in _FILES or name == records.unit_column:
            continue
        held = [cell for cell in cells if cell]
        different = len({unit_value(cell) for cell in held})
        if not held:
            out.append(f"column {name!r} is empty")
            continue
        if records.kind == "folder" and not name.islower():  # tags of DICOM
            role = "the unit" if like_units([name]) else "labels"
            flag = "--unit" if like_units([name]) else "--labels"
            out.append(f"tag {name!r} may serve as {role} ({flag} {name}; {different:,} values)")
            continue
        marks = [m for m in ("|", ";", ",") if name != captions and joined(held, m)]
        if marks == [","] and (_CAPTIONS.search(name) or _sentences(held)):
            marks = []
        if marks:
            out.append(
                f"column {name!r} looks like several labels for one image, joined by {marks[0]!r}:"
                " an image has one class here; as it is, each combination is a class of its own:"
                " make a column with one label each"
            )
            continue
        role = None if name in used else _role(name, different, held)
        if role:
            out.append(f"column {name!r} looks like {role} ({different:,} values)")
    return out


def joined(cells: list[str], mark: str) -> bool:
    """Whether cells are lists of words from a small stock."""
    lists = [[part.strip() for part in cell.split(mark)] for cell in cells]
    many = sum(len(parts) > 1 for parts in lists)
    stock = {part for parts in lists for part in parts}
    short = all(len(part) <= 40 for part in stock)
    return many * 5 >= len(cells) and short and len(stock) * 2 < sum(map(len, lists))


def _sentences(cells: list[str]) -> bool:
    """Whether what stands between commas is phrases rather than labels."""
    parts = [part for cell in cells for part in cell.split(",")]
    return sum(len(part.split()) for part in parts) > 2 * len(parts)


def _role(name: str, different: int, cells: list[str]) -> str | None:
    words = sum(len(cell.split()) for cell in cells) / len(cells)
    if _CAPTIONS.search(name) or (words > 4 and different > len(cells) / 2):
        return "captions (--caption-column)"
    if _UNITS.search(name) and different < len(cells):
        return f"units to protect (--unit {name})"
    if _LABELS.search(name) or (1 < different <= max(2, len(cells) // 10) and words < 4):
        return f"labels (--labels {name})"
    if 1 < len(cells) / different <= 50 and different > 2 and len(cells) > 2 * different:
        return f"units, if each value is one person (--unit {name})"
    return None
