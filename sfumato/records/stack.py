"""Image arrays of any number type as 8 bits: by the declared range, or by the rule of the type."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..options import FIXED, Values
from .decode import fingerprints
from .levels import GROUNDS, STORED, mapped, to_eight_bits
from .rules import NOT_FINITE, NOT_IN_ONE

BLOCK = 1024  # pictures that are converted at once


@dataclass(frozen=True)
class Canonical:
    """An image array as training sees it.

    Attributes:
        pixels: uint8 [n, H, W] or [n, H, W, 3].
        rules: The rule that each record breaks, or None.
        prints: SHA-256 of each record by the fixed rules, and `shown` of `pixels`; None where these
            follow from the fixed rules.
        stored: `levels.STORED` of each record; None where `pixels` are what is stored.
    """

    pixels: np.ndarray
    rules: list[str | None]
    prints: tuple[bytes, ...] | None = None
    shown: tuple[bytes, ...] | None = None
    stored: np.ndarray | None = None


def canonical(images: np.ndarray, values: Values = FIXED) -> Canonical:
    """Any image array as 8 bits, by the declared range or by the fixed rule of its type.

    Takes [n, H, W], [n, H, W, 1|3|4] or [n, 1|3, H, W]. Without a declared range uint8 is as it is,
    uint16 is scaled by 1/257, bool is black and white, and floats are 0..1: a record that leaves
    this is bad. With one, numbers of any type are mapped and clipped, a record alone.

    Raises:
        DataError: Another shape, or a type without a fixed rule where no range is declared.
    """
    if images.ndim == 4 and images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3, 4)):
        raise DataError(
            "array `images` has the wrong shape: give [n, H, W], [n, H, W, 3] or [n, 3, H, W]"
        )
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    _require_meaning(images.dtype, values)
    if images.dtype == np.uint8 and images.shape[3:] != (4,) and values == FIXED:
        return Canonical(images, [None] * len(images))
    # Block by block: the source may be larger than the memory, and a whole copy in float64
    # certainly is.
    blocks = [
        _canonical(images[at : at + BLOCK], values) for at in range(0, max(len(images), 1), BLOCK)
    ]
    prints, shown = (
        tuple(mark for block in blocks for mark in getattr(block, what) or ())
        for what in ("prints", "shown")
    )
    return Canonical(
        np.concatenate([block.pixels for block in blocks]),
        [rule for block in blocks for rule in block.rules],
        None if values == FIXED else prints,
        None if values == FIXED else shown,
        np.concatenate([block.stored for block in blocks if block.stored is not None]),
    )


def _require_meaning(dtype: np.dtype, values: Values) -> None:
    """DataError for a type whose numbers say nothing of black and white, or that holds none."""
    if dtype in (np.uint8, np.uint16, np.bool_) or dtype.kind == "f":
        return
    if dtype.kind not in "iu":
        raise DataError(f"array `images` is {dtype}: give uint8, uint16, bool, or floats in 0..1")
    if values.low is None:
        raise DataError(
            f"array `images` is {dtype}, which has no fixed black and white: declare them with"
            " --range LO..HI, or give uint8, uint16, bool, or floats in 0..1"
        )


def _canonical(images: np.ndarray, values: Values) -> Canonical:
    """One block, always as a copy."""
    n, width, dtype = len(images), math.prod(images.shape[1:]), images.dtype
    rules: list[str | None] = [None] * n
    if dtype.kind == "f":
        finite = np.asarray(np.isfinite(images).reshape(n, width).all(1))
        images = np.where(finite.reshape(-1, *[1] * (images.ndim - 1)), images, 0)
        rules = [None if ok else NOT_FINITE for ok in finite]
    top = {np.dtype(np.uint8): 255, np.dtype(np.bool_): 255, np.dtype(np.uint16): 65535}.get(dtype)
    applies = values.applies_to(top) and dtype != np.bool_
    clear = images.shape[3:] == (4,)
    colours = images[..., :3] if clear else images
    inside = np.ones(n, bool)
    if dtype.kind == "f" and images.size:
        inside = np.asarray(((images >= 0) & (images <= 1)).reshape(n, width).all(1))
    if not applies and not inside.all():
        rules = [rule or (None if ok else NOT_IN_ONE) for rule, ok in zip(rules, inside)]
    own = mapped(colours, values) if applies else _by_type(colours)
    own = 255 - own if values.invert else own
    shown = _laid(own, images[..., 3:], values) if clear else own
    stored = _stored(colours, shown, values, applies)
    if values == FIXED:
        return Canonical(np.array(shown), rules, stored=stored)
    marks = tuple(fingerprints(as_rgb(shown)))
    return Canonical(np.array(shown), rules, _prints(images, inside), marks, stored)


def _by_type(samples: np.ndarray) -> np.ndarray:
    """The fixed rule of a type; floats outside 0..1 are clipped."""
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * 255
    if samples.dtype == np.uint16:
        return to_eight_bits(samples)
    if samples.dtype.kind == "f":
        return np.rint(np.clip(samples, 0, 1) * 255).astype(np.uint8)
    return samples


def _laid(colours: np.ndarray, alpha: np.ndarray, values: Values) -> np.ndarray:
    """Colours on the declared ground. An alpha of numbers beyond its type's rule has no meaning."""
    if values.background == "ignore":
        return colours
    if alpha.dtype.kind == "i" or alpha.dtype.kind == "u" and alpha.dtype.itemsize > 2:
        raise DataError(
            f"array `images` has an alpha channel of {alpha.dtype}: leave it out with --background"
            " ignore"
        )
    weight = _by_type(alpha).astype(np.uint32)
    ground = GROUNDS[values.background]
    return ((colours * weight + ground * (255 - weight) + 127) // 255).astype(np.uint8)


def _prints(images: np.ndarray, inside: np.ndarray) -> tuple[bytes, ...]:
    """By what the ledger knows each record, whatever range is declared.

    By the pixels of the fixed rules, or where there is none for a record, by its own bytes.
    """
    dtype = images.dtype
    plain = dtype in (np.uint8, np.uint16, np.bool_) or dtype.kind == "f"
    if not plain:
        return tuple(_by_bytes(row) for row in images)
    colours = _by_type(images[..., :3] if images.shape[3:] == (4,) else images)
    if images.shape[3:] == (4,):
        colours = _laid(colours, images[..., 3:], FIXED)
    marks = fingerprints(as_rgb(colours))
    return tuple(
        mark if ok else _by_bytes(row) for mark, ok, row in zip(marks, inside, images, strict=True)
    )


def as_rgb(block: np.ndarray) -> np.ndarray:
    """uint8 [k, H, W] or [k, H, W, 3] -> [k, H, W, 3]."""
    return block if block.ndim == 4 else np.repeat(block[..., None], 3, 3)


def _by_bytes(row: np.ndarray) -> bytes:
    head = f"{row.dtype.newbyteorder('<').str} {row.shape}".encode()
    return hashlib.sha256(head + row.astype(row.dtype.newbyteorder("<")).tobytes()).digest()


def _stored(samples: np.ndarray, shown: np.ndarray, values: Values, applies: bool) -> np.ndarray:
    n = len(samples)
    out = np.zeros(n, STORED)
    if not samples.size:
        return out
    rows, levels = samples.reshape(n, -1), shown.reshape(n, -1)
    out["bits"] = 1 if samples.dtype == np.bool_ else 8 * samples.dtype.itemsize
    out["colour"] = samples.ndim == 4
    out["low"], out["high"] = rows.min(1), rows.max(1)
    out["dark"], out["bright"] = levels.min(1), levels.max(1)
    if applies and values.low is not None and values.high is not None:
        out["outside"] = ((rows < values.low) | (rows > values.high)).mean(1)
    return out
