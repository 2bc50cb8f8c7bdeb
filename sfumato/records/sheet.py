"""A contact sheet of what a model will see of private images. PRIVATE: it shows them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .recordset import RecordSet

AT_LEAST = 96  # pixels of a picture on the sheet: enlarged by whole numbers, without smoothing
EACH = 8  # pictures a class
MOST_CLASSES = 40
MARGIN, LINE = 8, 16
MARK = "PRIVATE: shows private images. Keep it on this machine; no release may hold it."


def new_place(folder: Path) -> Path:
    """Where a new sheet in a folder would lie: nothing that is there is replaced."""
    place = folder / "sheet.PRIVATE.png"
    for number in itertools.count(2):
        if not place.exists():
            break
        place = folder / f"sheet-{number}.PRIVATE.png"
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
