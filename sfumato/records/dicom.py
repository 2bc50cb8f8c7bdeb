"""DICOM: what a header says, and one frame as grey levels or colours.

Runs in the decoder's process only. Nothing of a header leaves it but what was asked for by name.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..options import FIXED, Values
from .decode import BadImage, Decoded, check_size
from .levels import STORED, mapped
from .rules import DAMAGED, NEEDS_MEDICAL, NO_DECODER, UNREADABLE

MOST_FRAMES = 10_000
LONGEST = 1024  # signs of a tag's value
BURNT, OVERLAY, PERHAPS = "burnt", "overlay", "perhaps"
EXTENDED, DEEP_EXTENDED = "1.2.840.10008.1.2.4.51", "pylibjpeg-libjpeg"
BARE = {True: "1.2.840.10008.1.2", False: "1.2.840.10008.1.2.1"}  # implicit, explicit
BIG = "1.2.840.10008.1.2.2"
_PICTURES = re.compile(r"Image Storage|Dose Storage|Segmentation Storage|Parametric Map Storage")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TEXT_LIKELY = ("US", "SC", "OT", "XC", "ES", "DOC")  # modalities that often carry it
_GREYS = ("MONOCHROME1", "MONOCHROME2")


def is_keyword(name: str) -> bool:
    """Whether a name is the keyword of a DICOM tag, such as PatientID."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]{2,63}", name) or find_spec("pydicom") is None:
        return False
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(name) is not None


def header(data: bytes, tags: list[str]) -> dict[str, Any]:
    """What is said of one file: its frames, the tags asked for, and what to warn of.

    Args:
        data: The file.
        tags: Keywords; a value that is missing, empty or no text is None.

    Returns:
        `frames`, `tags`, `marks`; `picture` False for what is no picture by its class (a report, a
        plan, a waveform, a directory).
    """
    ds = _read(data, until_pixels=True)
    try:
        found = {name: _text(ds, name) for name in tags}
        out = {"frames": 1, "tags": found, "marks": [], "picture": True}
        if "Rows" not in ds and _is_no_picture(ds):
            return out | {"picture": False}
        return out | {"frames": _count(ds, len(data)), "marks": _marks(ds)}
    except (BadImage, MemoryError):
        raise
    except Exception:  # an element that is not of its type
        raise BadImage(DAMAGED) from None


def frame(data: bytes, index: int, values: Values = FIXED) -> Decoded:
    """One frame as training sees it; BadImage with the rule that it breaks.

    Modality LUT or rescale, then the declared range, or the first window or LUT of the file itself,
    or all its stored bits; MONOCHROME1 is turned. Colours become RGB.
    """
    ds = _read(data)
    try:
        rows, columns = int(ds.Rows), int(ds.Columns)
    except (AttributeError, TypeError, ValueError):
        raise BadImage(DAMAGED) from None
    check_size(columns, rows)
    if index >= _count(ds, len(data)):
        raise BadImage(DAMAGED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _pixels(ds, index)
            if pixels.shape[:2] != (rows, columns):
                raise BadImage(DAMAGED)
            _take_groups(ds, index)
            grey = pixels.ndim == 2 and str(ds.PhotometricInterpretation) in _GREYS
            return _greys(ds, pixels, values) if grey else _colours(ds, pixels, values)
    except (BadImage, MemoryError):
        raise
    except Exception:  # whatever its pieces raise on a damaged header
        raise BadImage(DAMAGED) from None


def _read(data: bytes, until_pixels: bool = False) -> Any:
    """The data set of a file."""
    if find_spec("pydicom") is None:
        raise BadImage(NEEDS_MEDICAL)
    import pydicom

    bare = data[128:132] != b"DICM"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=until_pixels, force=bare)
            if not ds:  # what is left of a file that ends before its pixels do
                raise BadImage(UNREADABLE if bare else DAMAGED)
            if not getattr(ds, "file_meta", None) or "TransferSyntaxUID" not in ds.file_meta:
                _name_syntax(ds)
            return ds
    except (BadImage, MemoryError):
        raise
    except Exception:  # what pydicom raises on a damaged file is of no fixed kind
        raise BadImage(DAMAGED if not bare else UNREADABLE) from None


def _name_syntax(ds: Any) -> None:
    """A file without meta information is in the syntax that it was read by."""
    from pydicom.dataset import FileMetaDataset

    implicit, little = ds.original_encoding
    meta: Any = getattr(ds, "file_meta", None) or FileMetaDataset()
    meta.TransferSyntaxUID = BARE[bool(implicit)] if little else BIG
    ds.file_meta = meta


def _text(ds: Any, name: str) -> str | None:
    try:
        value = ds.get(name)
    except Exception:  # a value that its type does not allow
        return None
    if value is None or isinstance(value, bytes) or hasattr(value, "is_undefined_length"):
        return None
    parts = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    text = "\\".join(str(part) for part in parts).strip()
    return text if 0 < len(text) <= LONGEST else None


def _is_no_picture(ds: Any) -> bool:
    """Whether its class is known, and is not one of pictures."""
    from pydicom.uid import UID

    said = ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID")
    name = UID(str(said)).name if said else ""
    known = bool(said) and name != str(said)
    return known and not _PICTURES.search(name)


def _count(ds: Any, size: int) -> int:
    """Frames of a file; BadImage for a number that it cannot hold."""
    try:
        count = int(ds.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        raise BadImage(DAMAGED) from None
    if not 1 <= count <= MOST_FRAMES or count > size:
        raise BadImage(DAMAGED if count <= MOST_FRAMES else "too large")
    return count


def _marks(ds: Any) -> list[str]:
    """What the owner is warned of: text in the pixels, and overlays, which are not drawn."""
    said = str(ds.get("BurnedInAnnotation") or "").strip().upper()
    kind = [str(part) for part in ds.get("ImageType") or ()]
    likely = str(ds.get("Modality") or "") in _TEXT_LIKELY or "SECONDARY" in kind
    found = [BURNT] if said == "YES" else [PERHAPS] if said != "NO" and likely else []
    overlays = any(0x6000 <= tag.group <= 0x60FF and tag.element == 0x0010 for tag in ds.keys())
    return found + [OVERLAY] * overlays


def _pixels(ds: Any, index: int) -> np.ndarray:
    """Decoded samples [H, W] or [H, W, 3]; YBR becomes RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    if not any(name in ds for name in _PIXELS):
        raise BadImage(DAMAGED)
    syntax: Any = ds.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BadImage(NO_DECODER) from None
    deep = str(syntax) == EXTENDED and (ds.get("BitsStored") or 0) > 8
    if syntax.is_encapsulated and not decoder.is_available or deep and not _has_deep(decoder):
        raise BadImage(NO_DECODER)
    return pixel_array(ds, index=index)


def _has_deep(decoder: Any) -> bool:
    """Whether JPEG of 12 bits can be read: of all decoders only one can."""
    return "pylibjpeg" in decoder.available_plugins


def _take_groups(ds: Any, index: int) -> None:
    """Rescale and window of an enhanced file, which stand in its functional groups.

    pydicom applies only those at the top of a file.
    """
    shared = ds.get("SharedFunctionalGroupsSequence") or ()
    each = ds.get("PerFrameFunctionalGroupsSequence") or ()
    for groups in (*shared[:1], *each[index : index + 1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (groups.get(name) or ())[:1]:
                for element in item:
                    ds.add(element)


def _greys(ds: Any, samples: np.ndarray, values: Values) -> Decoded:
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


def _colours(ds: Any, pixels: np.ndarray, values: Values) -> Decoded:
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
