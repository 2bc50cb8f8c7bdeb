"""What a model's card tells its reader to paste, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """A picture, uint8 [height, width, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def pasted_lines(release: Path, base: Path, place: Path) -> tuple[str | None, str]:
    """The sample that the card's lines draw again, if any, and the lines with their folders."""
    card = (release / "README.md").read_text()
    lines = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    found = re.search(r"# draws (\S+) again", lines)
    lines = lines.replace("path/to/the/base", str(base))
    lines = lines.replace("path/to/this/folder", str(release))
    return found and found[1], lines.replace("picture.png", str(place / "picture.png"))


def draw_as_pasted(release: Path, base: Path, place: Path) -> tuple[str, np.ndarray]:
    """The sample that the card's lines draw again, by name, and what they draw, int64 [h, w, 3]."""
    name, lines = pasted_lines(release, base, place)
    assert name is not None
    exec(lines, {})
    return name, pixels(place / "picture.png").astype(int)
