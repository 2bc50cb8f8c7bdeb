"""What pictures look like: a small grey picture of each, by which near-copies are known.

A 64-bit perceptual hash (pHash) was tried first: it loses a fifth of re-encoded clip art, because
what a symmetric drawing lacks of a frequency has no sign (docs/data.md#near-copies). The
correlation of two small grey pictures has no such corner, and 256 bytes a picture are little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ModelError

SIDE = 16  # pixels on a side of the small picture
CELLS = SIDE * SIDE
PLAIN = 4.0  # standard deviation in grey levels under which nothing tells a picture from others
BITS = 192  # of the hash that stands for a public picture where the picture itself is not kept
KNOWN = "training-pictures.npz"  # in a base's folder: hashes of the pictures that it has seen
LARGEST = 2**20  # bytes of it
_PART = 1024  # pictures that are held while they become hashes


@dataclass(frozen=True, eq=False)
class Looks:
    """What n pictures look like.

    Attributes:
        small: uint8 [n, views, 256], grey 16x16: of the square in the middle, as a model sees it,
            and, where some picture is not square, of the whole, squeezed.
        plain: bool [n]: too plain to be told from others.
    """

    small: np.ndarray
    plain: np.ndarray

    def __len__(self) -> int:
        return len(self.small)

    @property
    def views(self) -> int:
        """How many small pictures each has."""
        return self.small.shape[1]


def looks_of(pictures: Iterable[np.ndarray | None], n: int) -> Looks:
    """Looks of n pictures uint8 [H, W, 3] or [H, W]; None stands for one that is not there."""
    views = np.zeros((n, CELLS), np.uint8)
    wholes, plain = None, np.ones(n, bool)
    for at, pixels in enumerate(pictures):
        if pixels is None:
            continue
        grey = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
        side = min(grey.size)
        left, top = (grey.width - side) // 2, (grey.height - side) // 2
        views[at] = _shrunk(grey.crop((left, top, left + side, top + side)))
        plain[at] = views[at].std() < PLAIN
        if grey.width != grey.height and wholes is None:
            wholes = views.copy()  # those before were square: their wholes are their views
        if wholes is not None:
            wholes[at] = views[at] if grey.width == grey.height else _shrunk(grey)
    small = views[:, None] if wholes is None else np.stack([views, wholes], 1)
    return Looks(small, plain)


def _shrunk(grey: Image.Image) -> np.ndarray:
    small = grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small).reshape(-1)


def mirrored(small: np.ndarray) -> np.ndarray:
    """[..., 256] small pictures, left and right exchanged."""
    return small.reshape(*small.shape[:-1], SIDE, SIDE)[..., ::-1].reshape(small.shape)


def unit(small: np.ndarray) -> np.ndarray:
    """Small pictures as vectors whose products are correlations: float32, mean 0, norm 1."""
    found = small.astype(np.float32)
    found -= found.mean(-1, keepdims=True)
    found /= np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-6)
    return found


def bits_of(small: np.ndarray) -> np.ndarray:
    """Hashes uint64 [n, 3] of small pictures uint8 [n, 256].

    SimHash (Charikar, STOC 2002): signs of the products with fixed directions. Of two pictures
    whose vectors enclose the angle a, a share a / pi of the bits differs.
    """
    signs = unit(small) @ _DIRECTIONS > 0
    return np.packbits(signs, axis=1).view(">u8").astype(np.uint64)


def _directions() -> np.ndarray:
    """float32 [256, BITS] of +1 and -1, the same on every machine and for ever."""
    stream = hashlib.shake_256(b"sfumato looks 1").digest(CELLS * BITS // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(CELLS, BITS)
    return signs.astype(np.float32) * 2 - 1


_DIRECTIONS = _directions()


def save_known(file: Path, pictures: Iterable[np.ndarray]) -> int:
    """Writes the hashes of public pictures uint8 [H, W, 3] for the folder of a base.

    Pictures that are too plain are left out, and equal hashes are kept once.

    Returns:
        How many hashes there are.

    Raises:
        ValueError: They would take more than `LARGEST` bytes.
    """
    found = [bits_of(part.small[~part.plain, 0]) for part in _in_parts(pictures)]
    bits = np.unique(np.concatenate(found), axis=0)
    if bits.nbytes > LARGEST - 4096:
        raise ValueError(f"{len(bits):,} hashes are more than 1 MB: leave pictures out")
    np.savez(file, bits=bits)
    return len(bits)


def _in_parts(pictures: Iterable[np.ndarray]) -> Iterator[Looks]:
    part: list[np.ndarray] = []
    for picture in pictures:
        part.append(picture)
        if len(part) == _PART:
            yield looks_of(part, len(part))
            part = []
    yield looks_of(part, len(part))


def load_known(folder: Path) -> np.ndarray | None:
    """Hashes uint64 [m, 3] of a base's training pictures; None where its folder has none.

    Raises:
        ModelError: The file is damaged, too large or of another kind.
    """
    file = folder / KNOWN
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError
        with np.load(file, allow_pickle=False) as stored:
            bits = stored["bits"]
        if bits.dtype != np.uint64 or bits.ndim != 2 or bits.shape[1] != BITS // 64:
            raise ValueError
    except Exception:  # whatever a damaged zip may raise
        raise ModelError(
            f"{file} does not hold hashes of training pictures, or more than 1 MB: remove it, or"
            " copy the base again"
        ) from None
    return bits
