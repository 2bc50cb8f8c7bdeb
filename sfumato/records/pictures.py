"""One picture of a file, whatever its format: the decoder's process starts here.

Every decoder has a module of its own, and no file reaches one that its first bytes do not name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..options import FIXED, Values
from . import decode, dicom, nifti, tiff
from .decode import MAX_BYTES, BadImage, Decoded
from .rules import UNREADABLE
from .sniff import DICOM, HEAD, HEIC, NIFTI, TIFF, kind_of

PLAIN = -1  # of a source that has no names of files: pictures only, and of several the first
BEFORE = -2  # of a run of a version that read PNG, JPEG, WebP and BMP alone
_OF_BEFORE = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"BM")
Box = tuple[int, int, int, int]  # left, top, right, bottom of a part of a picture
WHOLE: Box = (0, 0, 0, 0)
BARE = "bare.dcm"  # the name by which DICOM without its preamble is known


def examine(data: bytes, values: Values = FIXED, frame: int = PLAIN) -> Decoded:
    """One picture, and what else the index keeps of it; BadImage with the rule that it breaks.

    Args:
        data: The file.
        values: What was declared of stored values.
        frame: Which frame, slice or page; PLAIN for a picture of a source that has no files, BEFORE
            for one of the first formats.
    """
    if len(data) > MAX_BYTES:
        raise BadImage("too large")
    if frame == BEFORE and data and not data.startswith(_OF_BEFORE):
        raise BadImage(UNREADABLE)
    kind = _kind(data, frame)
    if kind == TIFF:
        return tiff.frame(data, max(frame, 0), values)
    if kind == DICOM and frame >= 0:
        return dicom.frame(data, frame, values)
    if kind == NIFTI and frame >= 0:
        return nifti.frame(data, frame, values)
    if kind in (DICOM, NIFTI):  # its unit would be lost: such files are read from a folder
        raise BadImage(UNREADABLE)
    return decode.examine(data, values)


def pixels(data: bytes, values: Values, frame: int) -> np.ndarray:
    """The pixels of `examine` alone, uint8 [H, W, 3]; BadImage as there."""
    small = len(data) <= MAX_BYTES and frame != BEFORE
    plain = small and _kind(data, frame) in (None, HEIC)
    return decode.decode(data, values)[0] if plain else examine(data, values, frame).pixels


def header(data: bytes, tags: list[str]) -> dict[str, Any]:
    """What is known of a file before any picture of it is decoded; see `dicom.header`."""
    if len(data) > MAX_BYTES:
        raise BadImage("too large")
    kind = _kind(data, 0)
    if kind == DICOM:
        return dicom.header(data, tags)
    frames = nifti.slices(data) if kind == NIFTI else tiff.pages(data) if kind == TIFF else 1
    return {"frames": frames, "tags": dict.fromkeys(tags), "marks": [], "picture": True}


def _kind(data: bytes, frame: int) -> str | None:
    return kind_of(data[:HEAD], BARE if frame >= 0 else "")
