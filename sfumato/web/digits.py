"""Bundled digits as a folder, so that everything can be tried without an image of one's own.

Made by a process of its own, `python -m sfumato.web.digits FOLDER`: unpacking takes memory that the
page itself should not keep.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

from PIL import Image

COUNT, SIDE = 3000, 28  # of the 60,000: looking at them and a first run take seconds
FOLDER = "bundled-digits"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEXT = "a handwritten digit {class}"  # as the base that knows digits was taught them
SUITED = "glyphs"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def unpack(top: Path) -> Path:
    """The folder of the digits below the studio's own, made once."""
    place = top / FOLDER
    if not place.is_dir():
        subprocess.run([sys.executable, "-m", "sfumato.web.digits", str(place)], check=True)
    return place


def make(place: Path) -> None:
    """The first digits of the bundled training set, as PNG files in ten class folders."""
    found: dict[str, bytes] = {}
    archive = files("sfumato").joinpath("data", "mnist.tar.xz")
    with archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:xz") as members:
        for member in members:
            content = members.extractfile(member)
            if member.name in (IMAGES, LABELS) and content is not None:
                head, each = (16, SIDE * SIDE) if member.name == IMAGES else (8, 1)
                found[member.name] = content.read(head + COUNT * each)[head:]
    part = place.with_name(place.name + ".part")
    for number, label in enumerate(found[LABELS]):
        pixels = found[IMAGES][number * SIDE * SIDE : (number + 1) * SIDE * SIDE]
        folder = part / WORDS[label]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        Image.frombytes("L", (SIDE, SIDE), pixels).save(folder / f"{number:04d}.png")
    part.rename(place)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
