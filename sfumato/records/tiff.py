"""TIFF: one page. Runs in the decoder's process only.

Pillow reads it; samples that it does not bring to 8 bits follow the rules of arrays.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from ..options import FIXED, Values
from .decode import DAMAGE, BadImage, Decoded, check_size, examined
from .levels import WORD
from .rules import DAMAGED, NO_RANGE, UNREADABLE
from .samples import of_samples

MOST_PAGES = 1_000
BITS, PHOTOMETRIC, KIND = 258, 262, 254  # tags
REDUCED = 1  # bit of KIND: a smaller copy of another page
WHITE_IS_ZERO = 0


def pages(data: bytes) -> int:
    """Pages that are no smaller copies of others; BadImage if there are none or far too many."""
    image = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return max(len(_full(image)), 1)
    except DAMAGE:
        raise BadImage(DAMAGED) from None


def frame(data: bytes, index: int, values: Values = FIXED) -> Decoded:
    """One page as training sees it; BadImage with the rule that it breaks."""
    image = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if index:
                full = _full(image)
                if index >= len(full):
                    raise BadImage(DAMAGED)
                image.seek(full[index])
            check_size(*image.size)
            bits, white = _tag(image, BITS), _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
            image.load()
            return _decoded(image, data, values, bits, white)
    except DAMAGE as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(DAMAGED) from None


def _decoded(image: Image.Image, data: bytes, values: Values, bits: int, white: bool) -> Decoded:
    if image.mode[0] in "IF":
        samples = np.asarray(image)
        if white and image.mode.startswith("I;16"):
            samples = WORD - samples  # Pillow turns only what it keeps in 8 bits
        return of_samples(samples, values)
    if bits > 8 and values.applies_to(WORD):
        raise BadImage(NO_RANGE)  # Pillow keeps the upper 8 bits of colours, which say too little
    found = examined(image, data, values)
    found.stored["bits"] = max(found.stored["bits"], bits)
    return found


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=["TIFF"])
    except Image.DecompressionBombError:
        raise BadImage("too large") from None
    except DAMAGE:
        raise BadImage(UNREADABLE) from None


def _full(image: Image.Image) -> list[int]:
    """Places of the pages that are no smaller copies."""
    found = []
    for page in range(MOST_PAGES + 1):
        try:
            image.seek(page)
        except EOFError:
            image.seek(0)
            return found
        if not _tag(image, KIND) & REDUCED:
            found.append(page)
    raise BadImage("too large")


def _tag(image: Image.Image, number: int) -> int:
    """The largest value of a whole-numbered tag; 0 where there is none."""
    value = image.tag_v2.get(number, 0)  # type: ignore[attr-defined]
    return max((int(part) for part in (value if isinstance(value, tuple) else (value,))), default=0)
