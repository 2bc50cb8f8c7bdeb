"""From the bytes of one image file to canonical RGB pixels, or to the rule that refuses it."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
from PIL import Image

from ..options import FIXED, Values
from .jpeg import is_jpeg, scans
from .levels import seen_in, to_rgb
from .rules import DAMAGED, NEEDS_HEIC, POINTER, UNREADABLE
from .sniff import HEIC, kind_of

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 50_000_000
MAX_SCANS = 100  # of a JPEG: each scan costs a pass over all pixels, and real files have about ten
LFS = b"version https://git-lfs.github.com/spec/"
MIN_SIDE = 8
MAX_ASPECT = 20
PAD_AT_MOST = 4

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)  # what Pillow 10-13 raises on damaged files; ours to turn into a rule, never to pass on
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """One record broke a fixed rule; `rule` is its name.

    The record's slot stays and contributes zeros.
    """

    def __init__(self, rule: str):
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True)
class Decoded:
    """One file.

    Attributes:
        pixels: uint8 [H, W, 3] RGB as training sees them, by the declared range.
        plain: The same by the fixed rules alone: by these the ledger knows the picture, whatever
            was declared.
        exif: Whether the file carried EXIF.
        stored: What it holds (`levels.STORED`), for the owner's eyes.
        mark: By what the ledger knows the picture, where its samples say more than `plain`: SHA-256
            of these; else None.
    """

    pixels: np.ndarray
    plain: np.ndarray
    exif: bool
    stored: np.ndarray
    mark: bytes | None = None

    def cut(self, box: tuple[int, int, int, int]) -> Decoded:
        """A part of it, as `cut` cuts; `stored` stays that of the whole file."""
        pixels, mark = cut(self.pixels, box), self.mark
        plain = pixels if self.plain is self.pixels else cut(self.plain, box)
        if mark is not None:  # the samples are gone, and pixels hang on what is declared
            left, top = box[:2]
            ends = (left, top, left + pixels.shape[1], top + pixels.shape[0])
            mark = hashlib.sha256(mark + struct.pack("<4I", *ends)).digest()
        return replace(self, pixels=pixels, plain=plain, mark=mark)


def decode(data: bytes, values: Values = FIXED) -> tuple[np.ndarray, bool]:
    """Decode one file of `FORMATS`: (uint8 [H, W, 3] RGB, whether it carried EXIF).

    TIFF comes by `tiff.py`. Orientation is applied and all metadata dropped, ICC profiles are
    ignored, an animation gives its first frame. Stored values become 8 bits by the declared range,
    or by the fixed rules of docs/data.md: transparency on white, 16 bits by 1/257.

    Raises:
        BadImage: With the rule that refused it.
    """
    _, pixels, exif, turn = _opened(data, values)
    return np.asarray(_turned(pixels, turn)), exif


def examine(data: bytes, values: Values = FIXED) -> Decoded:
    """`decode`, and what else the index keeps of a file; BadImage as there."""
    image, pixels, exif, turn = _opened(data, values)
    return examined(image, data, values, pixels, exif, turn)


def examined(
    image: Image.Image,
    data: bytes,
    values: Values,
    pixels: Image.Image | None = None,
    exif: bool = False,
    turn: int = 1,
) -> Decoded:
    """What the index keeps of a loaded picture of 8 bits; BadImage as in `decode`.

    `pixels`: its RGB by `values`, if that is known; `turn`: its EXIF orientation.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = to_rgb(image, data, values) if pixels is None else pixels
            stored = seen_in(image, data, values, pixels)
            plain = pixels if values == FIXED else to_rgb(image, data, FIXED)
    except DAMAGE:
        raise BadImage(DAMAGED) from None
    shown = np.asarray(_turned(pixels, turn))
    return Decoded(
        shown, shown if plain is pixels else np.asarray(_turned(plain, turn)), exif, stored
    )


def _turned(pixels: Image.Image, orientation: int) -> Image.Image:
    return pixels.transpose(_TURNS[orientation]) if orientation in _TURNS else pixels


def _opened(data: bytes, values: Values) -> tuple[Image.Image, Image.Image, bool, int]:
    """The loaded picture, its RGB, whether it carried EXIF, and its orientation."""
    if not data:
        raise BadImage("empty file")
    if data.startswith(LFS):
        raise BadImage(POINTER)
    if len(data) > MAX_BYTES or is_jpeg(data) and scans(data).count > MAX_SCANS:
        raise BadImage("too large")
    formats = _formats(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        raise BadImage("too large") from None
    except DAMAGE:
        raise BadImage(UNREADABLE) from None
    check_size(*image.size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            exif, orientation = _exif(image)
            pixels = to_rgb(image, data, values)
    except DAMAGE:
        raise BadImage(DAMAGED) from None
    if image.format in ("JPEG", "MPO") and not scans(data).complete:
        raise BadImage(DAMAGED)
    return image, pixels, exif, orientation


def _formats(data: bytes) -> list[str]:
    """Formats that may be tried on a file: HEIF by its plug-in where that is installed."""
    formats = [name for name in FORMATS if name not in ("HEIF", "TIFF")]
    if kind_of(data) != HEIC:
        return formats
    if find_spec("pi_heif") is None:
        raise BadImage(NEEDS_HEIC)
    from pi_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    return ["HEIF"]


def check_size(width: int, height: int) -> None:
    """Applies the size rules to declared dimensions in pixels, before anything is decoded.

    Raises BadImage.
    """
    if width * height > MAX_PIXELS:
        raise BadImage("too large")
    if min(width, height) < 1:
        raise BadImage("too small")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImage("aspect ratio")
    if min(width, height) < MIN_SIDE:
        raise BadImage("too small")


def cut(pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The part of [H, W, 3] from left, top to right, bottom, as far as it lies in the picture.

    BadImage if it is too small or too long.
    """
    left, top, right, bottom = box
    part = pixels[top:bottom, left:right]
    check_size(part.shape[1], part.shape[0])
    return np.ascontiguousarray(part)


def _exif(image: Image.Image) -> tuple[bool, int]:
    try:
        exif = image.getexif()
        return len(exif) > 0, int(exif.get(0x0112, 1))
    except DAMAGE:  # a damaged EXIF block does not spoil the picture
        return True, 1


def fit(pixels: np.ndarray, resolution: int, pad: bool = False) -> np.ndarray:
    """Centre-crop [H, W, 3] uint8 to a square and bring it to [R, R, 3] by Lanczos.

    With `pad` (records that came as arrays) a square at most 4 px smaller than R keeps its pixels
    and gets a border.
    """
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side == resolution:
        return square
    if pad and 0 < resolution - side <= PAD_AT_MOST:
        return bordered(square[None], resolution)[0]
    image = Image.fromarray(np.ascontiguousarray(square))
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def bordered(block: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 [k, S, S, 3] in the middle of [k, R, R, 3].

    The border is the median of each image's own edge: black around digits, white around drawings.
    """
    side = block.shape[1]
    edge = np.concatenate([block[:, 0], block[:, -1], block[:, :, 0], block[:, :, -1]], axis=1)
    out = np.empty((len(block), resolution, resolution, 3), np.uint8)
    out[:] = np.median(edge, axis=1).astype(np.uint8)[:, None, None]
    before = (resolution - side) // 2
    out[:, before : before + side, before : before + side] = block
    return out


def fingerprint(pixels: np.ndarray) -> bytes:
    """SHA-256 of the shape and the canonical pixels [H, W, 3] of one record.

    32 bytes, private data.
    """
    return fingerprints(pixels[None])[0]


def fingerprints(block: np.ndarray) -> list[bytes]:
    """`fingerprint` of each of [k, H, W, 3]."""
    shape = struct.pack("<II", *block.shape[1:3])
    return [hashlib.sha256(shape + row.tobytes()).digest() for row in block]
