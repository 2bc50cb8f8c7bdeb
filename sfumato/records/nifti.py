"""NIfTI: one axial slice of a volume. Runs in the decoder's process only."""

from __future__ import annotations

import zlib
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..options import FIXED, Values
from .decode import BadImage, Decoded, check_size
from .dicom import MOST_FRAMES
from .rules import DAMAGED, NEEDS_MEDICAL, UNREADABLE
from .samples import of_samples
from .sniff import is_nifti

HEADER = 64 * 2**10  # bytes that hold header and extensions
MOST = 2**30  # bytes of an unpacked volume


def slices(data: bytes) -> int:
    """Axial slices of a volume; BadImage if it is none."""
    image = _read(_unpacked(data, HEADER))
    axis = _axes(image)[2][0]
    count = image.shape[axis] if axis < len(image.shape) else 1
    if not 1 <= count <= MOST_FRAMES:
        raise BadImage("too large" if count > 1 else DAMAGED)
    return count


def frame(data: bytes, index: int, values: Values = FIXED) -> Decoded:
    """One axial slice: anterior up, the right side of the body on the left of the picture.

    Of a series the first volume. The header's slope and intercept are applied; what is black and
    white is declared, or follows from the type of the numbers as in arrays.
    """
    image = _read(_unpacked(data, MOST))
    (right, turn_x), (front, turn_y), (up, turn_z) = axes = _axes(image)
    size = [image.shape[a] if a < len(image.shape) else 1 for a in (right, front, up)]
    if not all(size) or index >= size[2]:
        raise BadImage(DAMAGED)
    check_size(size[0], size[1])
    at: list[Any] = [0] * len(image.shape)
    for axis, _ in axes[:2]:
        at[axis] = slice(None)
    at[up] = size[2] - 1 - index if turn_z else index
    try:
        samples = np.asanyarray(image.dataobj[tuple(at)])
    except MemoryError:
        raise
    except Exception:  # as nibabel finds the voxels wanting
        raise BadImage(DAMAGED) from None
    if right > front:
        samples = samples.T
    # columns run from the right of the body to the left, rows from front to back
    samples = samples[:: 1 if turn_x else -1, :: 1 if turn_y else -1]
    if samples.dtype.names:
        samples = np.stack([samples[name] for name in samples.dtype.names[:3]], -1)
        return of_samples(np.ascontiguousarray(samples.swapaxes(0, 1)), values)
    return of_samples(np.ascontiguousarray(samples.T), values)


def _unpacked(data: bytes, most: int) -> bytes:
    """The bytes of a file, at most so many of them; of the whole, BadImage for more."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        found = stream.decompress(data, most)
    except zlib.error:
        raise BadImage(DAMAGED) from None
    if not is_nifti(found):
        raise BadImage(UNREADABLE)
    if most == MOST and not stream.eof:
        raise BadImage("too large" if len(found) == most else DAMAGED)
    return found


def _read(data: bytes) -> Any:
    if find_spec("nibabel") is None:
        raise BadImage(NEEDS_MEDICAL)
    import nibabel

    second = data[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c")
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    try:
        image = kind.from_bytes(data)
    except MemoryError:
        raise
    except Exception:  # as nibabel finds the header wanting
        raise BadImage(DAMAGED) from None
    if not 2 <= len(image.shape) <= 7 or 0 in image.shape:
        raise BadImage(DAMAGED)
    return image


def _axes(image: Any) -> list[tuple[int, bool]]:
    """(Axis of the array, whether it runs the other way) for right, front and up."""
    from nibabel.orientations import io_orientation

    try:
        found = io_orientation(image.affine)
    except Exception:  # an affine that is none
        raise BadImage(DAMAGED) from None
    order = found[:, 0].tolist()
    if sorted(order[:3]) != [0, 1, 2]:
        raise BadImage(DAMAGED)
    return [(order.index(want), bool(found[order.index(want), 1] < 0)) for want in range(3)]
