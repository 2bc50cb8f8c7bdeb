"""From stored sample values to 8 bits: the declared range, or the fixed rule of one type.

Nothing here looks at more than one picture, and a range is never taken from its values: what a
picture becomes changes with no other picture, and values outside the range are clipped.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from ..options import Values

WORD = 65535  # white in 16 bits
GROUNDS = {"white": 255, "black": 0, "grey": 128}
GREY_AND_ALPHA, COLOURS_AND_ALPHA = 4, 6  # colour types of PNG
ROWS = 256  # of a picture that are mapped at once: whole copies of large ones would not fit
# What one picture holds, for the owner's eyes: bits a sample as stored, whether it has colours and
# an alpha channel, smallest and largest stored value, share of samples outside the declared range,
# darkest and brightest level after it, by the mean of the channels; whether a window of the file's
# own (of DICOM) was taken in place of a declared one.
STORED = np.dtype(
    [
        ("bits", "u1"),
        ("colour", "?"),
        ("clear", "?"),
        ("low", "<f8"),
        ("high", "<f8"),
        ("outside", "<f4"),
        ("dark", "u1"),
        ("bright", "u1"),
        ("window", "?"),
    ]
)


def mapped(samples: np.ndarray, values: Values) -> np.ndarray:
    """Samples of any number type as uint8 of the same shape by the declared range, clipped to it.

    One table serves integers of up to 16 bits; anything else is mapped as float64.
    """
    assert values.low is not None and values.high is not None
    if samples.dtype in (np.uint8, np.uint16):
        table = _mapped(np.arange(np.iinfo(samples.dtype).max + 1), values.low, values.high)
        return table[samples]
    return _mapped(samples, values.low, values.high)


def _mapped(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    share = (samples.astype(np.float64) - low) / (high - low)
    return np.floor(np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_eight_bits(words: np.ndarray) -> np.ndarray:
    """The fixed rule for 16 bits: 0..65535 to 0..255, that is by 1/257, rounded."""
    levels = words.astype(np.uint32)
    levels += 128
    levels //= 257
    return levels.astype(np.uint8)


def to_rgb(image: Image.Image, data: bytes, values: Values) -> Image.Image:
    """A decoded picture as RGB of 8 bits.

    Args:
        image: As Pillow has loaded it.
        data: The file it came from, for what Pillow leaves out: of colours in 16 bits, the lower 8.
        values: What the owner declared.
    """
    if image.mode.startswith("I"):
        grey = _map_grey(image, values)
        return Image.fromarray(255 - grey if values.invert else grey).convert("RGB")
    clear = is_clear(image)
    top = image.convert("RGBA" if clear else "RGB")
    if is_deep(data) and values.applies_to(WORD):
        levels = _map_deep(data, values)
        top = _with_alpha_of(Image.fromarray(levels), top)
    elif values.applies_to(255):
        top = _through(top, mapped(np.arange(256, dtype=np.uint8), values))
    if values.invert:
        top = _through(top, np.arange(255, -1, -1, dtype=np.uint8))
    if not clear or values.background == "ignore":
        return top.convert("RGB")
    ground = (GROUNDS[values.background],) * 3
    return Image.alpha_composite(Image.new("RGBA", top.size, (*ground, 255)), top).convert("RGB")


def is_clear(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel or a transparent colour."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def is_deep(data: bytes) -> bool:
    """Whether a file is a PNG of 16 bits a sample, as its header says."""
    return data[:4] == b"\x89PNG" and data[12:16] == b"IHDR" and data[24:25] == b"\x10"


def seen_in(image: Image.Image, data: bytes, values: Values, pixels: Image.Image) -> np.ndarray:
    """The STORED record of one file. `pixels`: what `to_rgb` made of it."""
    out = np.zeros((), STORED)
    deep, grey = is_deep(data), image.mode.startswith("I")
    out["bits"] = 16 if deep or grey else 1 if image.mode == "1" else 8
    out["clear"] = is_clear(image)
    out["colour"] = image.mode not in ("1", "L", "LA", "La") and not grey
    if grey:
        words, count = _words(image), np.zeros(WORD + 1, np.int64)
        for at in range(0, len(words), ROWS):
            count += np.bincount(words[at : at + ROWS].reshape(-1), minlength=WORD + 1)
        scale, top = 1, WORD
    else:
        # Of colours in 16 bits Pillow keeps the upper 8: enough for the owner's eyes.
        shown = image if image.mode in ("L", "RGB") else image.convert("RGB")
        count = np.bincount(np.arange(256 * len(shown.getbands())) % 256, shown.histogram(), 256)
        scale, top = (256, WORD) if deep else (1, 255)
    held = np.flatnonzero(count)
    out["low"], out["high"] = held[0] * scale, held[-1] * scale + scale - 1
    if values.applies_to(top):
        at = np.arange(len(count)) * scale
        off = (at + scale - 1 < values.low) | (at > values.high)  # type: ignore[operator]
        out["outside"] = count[off].sum() / count.sum()
    out["dark"], out["bright"] = pixels.convert("L").getextrema()
    return out


def _words(image: Image.Image) -> np.ndarray:
    found = np.asarray(image)
    return found if found.dtype == np.uint16 else np.clip(found, 0, WORD).astype(np.uint16)


def _map_grey(image: Image.Image, values: Values) -> np.ndarray:
    words = _words(image)
    out = np.empty(words.shape, np.uint8)
    for at in range(0, len(words), ROWS):
        band = words[at : at + ROWS]
        out[at : at + ROWS] = (
            mapped(band, values) if values.applies_to(WORD) else to_eight_bits(band)
        )
    return out


def _map_deep(data: bytes, values: Values) -> np.ndarray:
    """Colours of a PNG of 16 bits, uint8 [H, W, 3], by the declared range."""
    if data[25] == GREY_AND_ALPHA:
        # Grey and alpha of 16 bits are four bytes, as RGBA of 8 bits is: the header decides.
        head = data[12:16] + data[16:24] + b"\x08\x06" + data[26:29]
        data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
        parts = Image.open(io.BytesIO(data), formats=["PNG"])
        parts.load()
        upper, lower = parts.getchannel(0), parts.getchannel(1)
    else:
        kind = "RGBA" if data[25] == COLOURS_AND_ALPHA else "RGB"
        upper, lower = (_bytes_of(data, f"{kind};16{end}") for end in "BL")
    out = np.empty((upper.height, upper.width, 3), np.uint8)
    for at in range(0, upper.height, ROWS):
        box = (0, at, upper.width, min(at + ROWS, upper.height))
        words = np.asarray(upper.crop(box)).astype(np.uint16) << 8
        words |= np.asarray(lower.crop(box))
        out[at : at + ROWS] = mapped(words if words.ndim == 3 else words[..., None], values)[
            ..., :3
        ]
    return out


def _bytes_of(data: bytes, raw: str) -> Image.Image:
    """One byte of each sample: with the ending "L" the lower, as if it came first."""
    image: Any = Image.open(io.BytesIO(data), formats=["PNG"])
    image.tile = [(*tile[:3], raw) for tile in image.tile]
    image.load()
    return image


def _with_alpha_of(colours: Image.Image, other: Image.Image) -> Image.Image:
    if other.mode == "RGBA":
        colours.putalpha(other.getchannel("A"))
    return colours


def _through(image: Image.Image, table: np.ndarray) -> Image.Image:
    """Colours through a table of 256 levels; alpha stays."""
    steps = table.tolist()
    return image.point(steps * 3 + list(range(256)) * (len(image.getbands()) - 3))
