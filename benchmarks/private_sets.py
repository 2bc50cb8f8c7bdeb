"""The public data sets that `results.py` uses as if they were private, their public words, and
public pictures beside them. Those that no base has seen are in `packed_sets.py`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import packed_sets

from sfumato.errors import DataError
from sfumato.records import RecordSet, bundled_digits, load_records
from sfumato.records.arrays import find_idx
from sfumato.verbs.demo import LOOK_ALIKE, demo_prompts
from sfumato.verbs.real_images import images_of

# of both sets; Fashion-MNIST's are T-shirt, trouser, pullover, dress, coat, ...
CLASSES = tuple("0123456789")
FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts the four files
CURE = (
    "apt-get install dataset-fashion-mnist, or name the folder of its four idx files with --fashion"
)
# Words of the bases icons and garments for the ten garments: where their class tokens start.
GARMENTS = (
    "t shirt",
    "jeans",
    "vest",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "shoe",
    "handbag",
    "boot",
)
GLYPHS = "glyphs.npz"  # what `python -m recipes.make` keeps of the fonts, in its folder packages/
# number and seed; that of public pictures is 0
FONT_DIGITS = {"train": (60_000, 1_000), "test": (10_000, 2_000)}


def read(data: str, split: str, source: Path = FASHION) -> RecordSet:
    """The split "train" or "test" of "mnist" (bundled) or another; DataError where files are
    missing or damaged.

    "font-digits" are digits of public fonts, drawn anew from `source` (the recipe's glyphs.npz):
    for the base letters, which has seen no digit, they stand for private digits while settings are
    searched. Both splits are of the same fonts. "fashion-mnist" (idx files in `source`) comes as
    its negative, dark on white: so are drawings of garments, and the autoencoder of the base icons
    errs a tenth as much on it. One fixed rule for every picture, so it costs nothing.
    """
    if data == "mnist":
        return bundled_digits(split)
    if data == "font-digits":
        return _font_digits(source, split)
    if data in packed_sets.FILES:
        return packed_sets.read(data, split, source)
    if not source.is_dir() or find_idx(source, split) is None:
        raise DataError(f"no Fashion-MNIST ({split}) in {source}: {CURE}")
    records = load_records(source, classes=CLASSES, part=split)
    if not records.usable.all() or records.array.shape[1:] != (28, 28):
        raise DataError(f"{source} holds no 28x28 pictures with labels 0 to 9: {CURE}")
    return replace(records, array=255 - records.array)


def _font_digits(source: Path, split: str) -> RecordSet:
    n, seed = FONT_DIGITS[split]
    images, labels = _font_glyphs(source, "glyphs", n, seed)
    own = np.arange(n)
    return RecordSet(
        f"font-digits:{split}",
        "npz",
        CLASSES,
        labels,
        own,
        None,
        np.ones(n, bool),
        array=images[..., 0],
    )


def digest(*sets: RecordSet) -> str:
    """SHA-256 over pixels and labels of data sets: which pictures a row was measured on."""
    found = hashlib.sha256()
    for records in sets:
        found.update(
            np.ascontiguousarray(records.array).tobytes() + records.labels.astype("<i8").tobytes()
        )
    return found.hexdigest()


def words(data: str, kind: str) -> dict:
    """Prompts and starts of class tokens for a base that knows the words of the bundled base
    `kind`.

    For any other base, or where a base has no words for the classes: one new token per class, the
    mean of all words.
    """
    if data in ("mnist", "font-digits") and kind in ("glyphs", "letters"):
        return demo_prompts(kind)
    if data == "fashion-mnist" and kind in ("icons", "garments"):
        return {"prompt": "icon of a {class}, filled style", "init": dict(zip(CLASSES, GARMENTS))}
    if data in packed_sets.FILES and kind in packed_sets.PROMPTS:
        return {"prompt": packed_sets.PROMPTS[kind][data]}
    return {}


def public_pictures(
    source: Path, data: str, kind: str, n: int, resolution: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most `n` public pictures of the ten classes: (uint8 [m, R, R, 3], int64 [m]).

    source: anything `sfumato inspect` reads, with classes 0 to 9; or the recipe's own `glyphs.npz`,
    from whose fonts digits are drawn anew, and for the base letters, which never saw a digit, the
    letters that look like them.
    """
    if source.name == GLYPHS:
        if data != "mnist" or resolution != 32:
            raise DataError(f"{source} holds 32x32 pictures for mnist alone")
        return _font_glyphs(source, kind, n, seed)
    images, labels = images_of(load_records(source, classes=CLASSES), CLASSES, resolution, "train")
    chosen = np.random.default_rng(seed).permutation(len(images))[:n]
    return images[chosen], labels[chosen]


def _font_glyphs(source: Path, kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    # the recipes are no part of the package
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from recipes.glyphs import load_glyphs, make_images

    if source.name != GLYPHS or not source.is_file():
        raise DataError(
            f"{source}: give the {GLYPHS} that python -m recipes.make glyphs leaves in its folder"
            " packages/"
        )
    letters = [
        name.split()[1].upper() if name.startswith("capital") else name.split()[1]
        for name in LOOK_ALIKE
    ]
    faces, each = load_glyphs(source.parent, source.parent), -(-n // len(CLASSES))
    drawn = [
        make_images(faces, character, each, seed + i)[0]
        for i, character in enumerate(letters if kind == "letters" else CLASSES)
    ]
    order = np.random.default_rng(seed).permutation(each * len(CLASSES))[:n]
    labels = np.repeat(np.arange(len(CLASSES)), each)
    return np.repeat(np.concatenate(drawn)[order][..., None], 3, axis=3), labels[order]
