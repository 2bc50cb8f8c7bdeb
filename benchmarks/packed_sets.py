"""Private sets that no bundled base has seen, read from the packages that hold them: animal
silhouettes, another vendor's emoji, a folder of clip art. `private_sets.read` knows them by name.

    pip download --no-deps animal-mnist==0.4
    npm pack emoji-datasource-twitter@16.0.0
    apt-get download openclipart-png

leave the three files in one folder, the `--packages` of `results.py`.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.errors import DataError
from sfumato.records import RecordSet

SIDE = 64
TEST = 5  # every fifth picture of a class is held out
FILES = {
    "animals": "animal_mnist-0.4-*.whl",
    "emoji": "emoji-datasource-twitter-16.0.0.tgz",
    "clip-art": "openclipart-png_*.deb",
}
ANIMALS = "bear bird cat cow dog elephant giraffe horse sheep zebra".split()
# Words that the bases know, for the categories of the emoji and the folders of the clip art.
EMOJI = {
    "face": "Smileys & Emotion",
    "person": "People & Body",
    "animal": "Animals & Nature",
    "food": "Food & Drink",
    "building": "Travel & Places",
    "ball": "Activities",
    "tool": "Objects",
    "sign": "Symbols",
    "flag": "Flags",
}
CLIP_ART = {
    "card": "games/cards",
    "gift": "holiday",
    "music": "music",
    "balloon": "party",
    "ball": "sports",
    "toy": "toys",
}
# In the words of each bundled base.
PROMPTS = {
    "things": {
        "animals": "silhouette of a {class}",
        "emoji": "a drawing of a {class}, colour emoji style",
        "clip-art": "a drawing of a {class}, clip art style",
    },
    "icons": {
        "animals": "icon of a {class}, silhouette style",
        "emoji": "icon of a {class}, colour emoji style",
        "clip-art": "icon of a {class}, colour emoji style",
    },
}


def read(data: str, split: str, folder: Path) -> RecordSet:
    """The split "train" or "test" of a set of `FILES`, out of its package in `folder`; DataError
    where it is not there.
    """
    found = sorted(folder.glob(FILES[data]))
    if not found:
        raise DataError(
            f"no {FILES[data]} in {folder}: benchmarks/packed_sets.py says how to get it"
        )
    images, labels = {"animals": _animals, "emoji": _emoji, "clip-art": _clip_art}[data](found[0])
    classes = {"animals": ANIMALS, "emoji": EMOJI, "clip-art": CLIP_ART}[data]
    held_out = np.zeros(len(labels), bool)
    for label in range(len(classes)):
        held_out[np.flatnonzero(labels == label)[TEST - 1 :: TEST]] = True
    chosen = held_out if split == "test" else ~held_out
    n = int(chosen.sum())
    return RecordSet(
        source=f"{data}:{split}",
        kind="npz",
        classes=tuple(classes),
        labels=labels[chosen],
        unit=np.arange(n),
        unit_column=None,
        usable=np.ones(n, bool),
        array=images[chosen],
    )


class _ArraysOnly(pickle.Unpickler):
    """Opens a pickled array and refuses whatever else a pickle could run."""

    def find_class(self, module: str, name: str):
        if (module.split(".")[0], name) in {
            ("numpy", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy", "_frombuffer"),
        }:
            return super().find_class(module, name)
        raise DataError(f"the animals' file holds {module}.{name}, which is no array")


def _animals(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Silhouettes white on black, as they come: uint8 [10000, 28, 28] and labels."""
    with zipfile.ZipFile(file) as wheel:
        parts = [
            _ArraysOnly(
                io.BytesIO(
                    gzip.decompress(
                        wheel.read(f"animal_mnist/data/Animal_MNIST/animal_{name}_version_3.gz")
                    )
                )
            ).load()
            for name in ("data", "label")
        ]
    return parts[0].astype(np.uint8), parts[1].astype(np.int64)


def _emoji(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The emoji without their skin-tone copies, on white: uint8 [n, 64, 64, 3] and categories."""
    categories = {category: number for number, category in enumerate(EMOJI.values())}
    with tarfile.open(file) as tar:
        members = {member.name: member for member in tar}
        listed = json.load(tar.extractfile(members["package/emoji.json"]))
        images, labels = [], []
        for emoji in sorted(listed, key=lambda e: e["image"]):
            member = members.get(f"package/img/twitter/64/{emoji['image']}")
            if emoji["category"] in categories and member is not None:
                images.append(_on_white(tar.extractfile(member).read()))
                labels.append(categories[emoji["category"]])
    return np.stack(images), np.array(labels)


def _clip_art(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of the reserved folder's larger parts: uint8 [n, 64, 64, 3] and parts."""
    root = "./usr/share/openclipart/png/recreation/"
    said = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(file)], check=True, capture_output=True
    ).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(said)) as tar:
        for member in tar:
            name = member.name.removeprefix(root)
            part = next(
                (k for k, p in enumerate(CLIP_ART.values()) if name.startswith(p + "/")), -1
            )
            if member.isfile() and name.endswith(".png") and part >= 0:
                found[name] = tar.extractfile(member).read(), part
    drawn = [
        (image, part)
        for image, part in map(_drawn, dict(sorted(found.items())).values())
        if image is not None
    ]
    images, labels = zip(*drawn)
    return np.stack(images), np.array(labels)


def _drawn(found: tuple[bytes, int]) -> tuple[np.ndarray | None, int]:
    try:
        return _on_white(found[0]), found[1]
    except (OSError, Image.DecompressionBombError):
        return None, found[1]


def _on_white(file: bytes) -> np.ndarray:
    """A picture in the middle of a white square, uint8 [64, 64, 3]."""
    drawing = Image.open(io.BytesIO(file)).convert("RGBA")
    scale = SIDE / max(drawing.size)
    size = tuple(max(1, round(side * scale)) for side in drawing.size)
    drawing = drawing.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE), "white")
    square.alpha_composite(drawing, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(square.convert("RGB"))
