"""Grey levels and colours of one DICOM frame, and by what the ledger knows it.

Runs in the decoder's process only.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..options import FIXED, Values
from .decode import BadImage, Decoded
from .levels import STORED, mapped
from .rules import DAMAGED, UNREADABLE


def of_greys(ds: Any, samples: np.ndarray, values: Values) -> Decoded:
    """Modality transform, then the declared range, or the window or stored bits of the file."""
    from pydicom.pixels import apply_modality_lut

    measured = apply_modality_lut(samples, ds)
    if not np.isfinite(measured).all():
        raise BadImage("not finite")
    low, high, bits = _span(ds, samples.dtype)
    top = 255.0 if (low, high) == (0, 255) else None
    applies, window = values.applies_to(top), None
    if applies:
        levels = mapped(measured, values)
    else:
        window = _windowed(ds, measured)
        shown, ends = (measured, (low, high)) if window is None else window
        levels = _levels(shown, *ends)
    if str(ds.PhotometricInterpretation) == "MONOCHROME1":
        levels = 255 - levels
    levels = 255 - levels if values.invert else levels
    stored = _stored(measured, levels, bits, values if applies else FIXED)
    stored["window"] = window is not None
    own = _as_grey(samples) if bits <= 8 and samples.dtype == np.uint8 and bits > 1 else None
    rgb = _as_grey(levels)
    if own is not None:  # as their PNG is known
        return Decoded(rgb, own, False, stored)
    return Decoded(rgb, rgb, False, stored, _mark(samples))


def _span(ds: Any, dtype: np.dtype) -> tuple[float, float, int]:
    """Smallest and largest value that may occur after the modality transform, and bits stored."""
    if dtype.kind == "f":
        return 0.0, 1.0, 8 * dtype.itemsize
    bits = int(ds.BitsStored)
    if ds.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(ds.ModalityLUTSequence[0].LUTDescriptor[2]) - 1, bits
    signed = int(ds.get("PixelRepresentation") or 0)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    if slope is None or intercept is None:
        return low, high, bits
    return low * float(slope) + float(intercept), high * float(slope) + float(intercept), bits


def _windowed(ds: Any, measured: np.ndarray) -> tuple[np.ndarray, tuple[float, float]] | None:
    """Values by the first VOI LUT or window of the file, and what they span; None without one."""
    from pydicom.pixels import apply_windowing

    for item in (ds.get("VOILUTSequence") or ())[:1]:
        return _looked_up(ds, item, measured)
    if ds.get("WindowCenter") is None or ds.get("WindowWidth") is None:
        return None
    try:
        shown = apply_windowing(measured, ds)
    except (ValueError, TypeError, IndexError):  # a width that no window has
        return None
    return shown, _span(ds, np.dtype(np.int16))[:2]


def _looked_up(ds: Any, item: Any, measured: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Values through a VOI LUT.

    pydicom counts entries in the type of their values, so that a table of more than 256 entries of
    8 bits comes out wrong.
    """
    entries, first, bits = (int(part) for part in item.LUTDescriptor)
    table = item.LUTData
    if isinstance(table, bytes):
        order = "<" if ds.original_encoding[1] in (True, None) else ">"
        table = np.frombuffer(table, order + "u2")
    table = np.asarray(table, np.float64)[: entries or 2**16]
    if not len(table):
        raise BadImage(DAMAGED)
    at = np.clip(np.floor(measured).astype(np.int64) - first, 0, len(table) - 1)
    return table[at], (0.0, 2.0**bits - 1)


def _levels(shown: np.ndarray, low: float, high: float) -> np.ndarray:
    share = (shown.astype(np.float64) - low) / (high - low)
    return np.floor(np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def of_colours(ds: Any, pixels: np.ndarray, values: Values) -> Decoded:
    """RGB of a frame in colours: from a palette, or as decoded."""
    from pydicom.pixels import apply_color_lut

    if str(ds.PhotometricInterpretation) == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, ds)
        pixels = _levels(pixels, 0, float(np.iinfo(pixels.dtype).max))
        bits = 8  # of a range of its entries nothing could be said
    else:
        bits = int(ds.BitsStored)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype.kind not in "ui":
        raise BadImage(UNREADABLE)
    plain = _levels(pixels, 0, 2.0**bits - 1)
    applies = values.applies_to(255 if bits <= 8 else None)
    rgb = mapped(pixels, values) if applies else plain
    rgb = 255 - rgb if values.invert else rgb
    return Decoded(rgb, plain, False, _stored(pixels, rgb, bits, values if applies else FIXED))


def _as_grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, 2)


def _mark(samples: np.ndarray) -> bytes:
    """By what the ledger knows a frame: its samples as stored, in whatever type and syntax.

    Windows, rescale and every other tag may differ between two exports of one picture.
    """
    kind = "f8" if samples.dtype.kind == "f" else "i8"
    head = f"DICOM samples {kind} {samples.shape}".encode()
    return hashlib.sha256(head + samples.astype(f"<{kind}").tobytes()).digest()


def _stored(samples: np.ndarray, levels: np.ndarray, bits: int, values: Values) -> np.ndarray:
    out = np.zeros((), STORED)
    out["bits"], out["colour"] = bits, samples.ndim == 3
    out["low"], out["high"] = samples.min(), samples.max()
    out["dark"], out["bright"] = levels.min(), levels.max()
    if values.low is not None and values.high is not None:
        out["outside"] = ((samples < values.low) | (samples > values.high)).mean()
    return out
