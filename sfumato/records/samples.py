"""Samples of one picture that are no 8-bit picture yet, by the rules that hold for arrays."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..options import FIXED, Values
from .decode import BadImage, Decoded
from .levels import STORED
from .rules import NO_RANGE
from .stack import as_rgb, canonical


def of_samples(samples: np.ndarray, values: Values = FIXED) -> Decoded:
    """Grey or colour samples [H, W] or [H, W, 3] of any number type as a decoded picture.

    By the declared range, or by the fixed rule of their type; BadImage with the rule that they
    break.
    """
    if samples.dtype.byteorder == ">":
        samples = samples.astype(samples.dtype.newbyteorder("="))
    try:
        found = canonical(samples[None], values)
    except DataError:  # a type of number without a black and a white of its own
        raise BadImage(NO_RANGE) from None
    if found.rules[0] is not None:
        raise BadImage(found.rules[0])
    levels = found.pixels[0]
    rgb = as_rgb(found.pixels)[0]
    plain = rgb if values == FIXED else _plain(samples)
    if plain is None:  # known by its bytes
        assert found.prints is not None
        plain, mark = rgb, found.prints[0]
    else:
        mark = None
    if found.stored is not None:
        return Decoded(rgb, plain, False, found.stored[0], mark)
    stored = np.zeros((), STORED)  # levels are what is stored
    stored["bits"], stored["colour"] = 8, levels.ndim == 3
    for low, high in (("low", "high"), ("dark", "bright")):
        stored[low], stored[high] = levels.min(), levels.max()
    return Decoded(rgb, plain, False, stored, mark)


def _plain(samples: np.ndarray) -> np.ndarray | None:
    """By the fixed rules alone; None where there is none for these samples."""
    try:
        found = canonical(samples[None])
    except DataError:
        return None
    return as_rgb(found.pixels)[0] if found.rules[0] is None else None
