"""A contact sheet of what a model will see of private images. PRIVATE: it shows them."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .copies import BASE, PUBLIC, Pair
from .recordset import RecordSet

AT_LEAST = 96  # pixels of a picture on the sheet: enlarged by whole numbers, without smoothing
EACH = 8  # pictures a class
MOST_CLASSES = 40
MARGIN, LINE = 8, 16
PAIRS, PAIRS_A_ROW = 60, 4  # of a sheet of near-copies
MARK = "PRIVATE: shows private images. Keep it on this machine; no release may hold it."


def new_place(folder: Path) -> Path:
    """Where a new sheet in a folder would lie: nothing that is there is replaced."""
    return free_name(folder / "sheet.PRIVATE.png")


def free_name(file: Path) -> Path:
    """The file, or the first name like it that is free: sheet-2.PRIVATE.png."""
    place, (stem, dot, rest) = file, file.name.partition(".")
    for number in itertools.count(2):
        if not os.path.lexists(place):
            break
        place = file.with_name(f"{stem}-{number}{dot}{rest}")
    return place


def sheet(records: RecordSet, side: int, each: int = EACH) -> Image.Image:
    """Several pictures of every class, as training sees them, enlarged to `AT_LEAST` pixels.

    Args:
        records: The private images, read as a run would read them.
        side: Pixels on a side that the model takes.
        each: Pictures of a class: the first usable ones.

    Returns:
        A picture with the mark PRIVATE and the names of the classes.
    """
    scale = max(1, math.ceil(AT_LEAST / side))
    cell = side * scale + MARGIN
    rows = _rows(records, each)
    width = max(MARGIN + cell * each, 640)
    height = MARGIN + LINE * 2 + sum(LINE + MARGIN + cell for _ in rows)
    out = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(12)
    draw.text((MARGIN, MARGIN), MARK, fill=(180, 0, 0), font=font)
    said = f"{side}x{side} pixels, as the model sees them; {records.values.said or 'by type'}"
    draw.text((MARGIN, MARGIN + LINE), said, fill="black", font=font)
    y = MARGIN + LINE * 2
    for name, slots in rows:
        draw.text((MARGIN, y), name, fill="black", font=font)
        y += LINE
        for column, pixels in enumerate(records.images(slots, side)):
            large = np.repeat(np.repeat(pixels, scale, 0), scale, 1)
            out.paste(Image.fromarray(large), (MARGIN + column * cell, y))
        y += cell + MARGIN
    return out


def _rows(records: RecordSet, each: int) -> list[tuple[str, np.ndarray]]:
    """Class name, and slots of its first usable records; what has no class comes last."""
    found = []
    names = [*records.classes[:MOST_CLASSES], "in no class that is kept"]
    for number, name in zip([*range(len(names) - 1), -1], names):
        slots = np.flatnonzero(records.usable & (records.labels == number))
        if len(slots):
            found.append((f"{name} ({len(slots):,})", slots[:each]))
    return found


def pairs_sheet(
    records: RecordSet, public: RecordSet | None, pairs: Sequence[Pair], side: int
) -> Image.Image:
    """Near-copies side by side, as the model would see them.

    Args:
        records: The private images.
        public: The public images of pairs of the kind PUBLIC.
        pairs: In the order of their numbers in the list; the first `PAIRS` of each kind are shown.
        side: Pixels on a side of each picture.

    Returns:
        A picture with the mark PRIVATE. A pair of the base's pictures shows the private one alone.
    """
    scale = max(1, math.ceil(AT_LEAST / side))
    cell = side * scale
    wide, high = 2 * cell + 2 * MARGIN, cell + LINE + MARGIN
    count: Counter[str] = Counter()
    shown: list[tuple[int, Pair]] = []
    for number, pair in enumerate(pairs, 1):
        count[pair.kind] += 1
        if count[pair.kind] <= PAIRS:
            shown.append((number, pair))
    rows = math.ceil(len(shown) / PAIRS_A_ROW)
    size = (max(640, MARGIN + wide * PAIRS_A_ROW), MARGIN + 2 * LINE + high * rows)
    out = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(12)
    draw.text((MARGIN, MARGIN), MARK, fill=(180, 0, 0), font=font)
    for at, (number, pair) in enumerate(shown):
        x = MARGIN + at % PAIRS_A_ROW * wide
        y = MARGIN + 2 * LINE + at // PAIRS_A_ROW * high
        draw.text((x, y), f"{number}: {pair.kind}", fill="black", font=font)
        sets = {PUBLIC: public, BASE: None}.get(pair.kind, records)
        for step, (source, slot) in enumerate(((records, pair.slot), (sets, pair.other))):
            if source is not None:
                pixels = source.images([slot], side)[0]
                large = np.repeat(np.repeat(pixels, scale, 0), scale, 1)
                out.paste(Image.fromarray(large), (x + step * cell, y + LINE))
    return out
