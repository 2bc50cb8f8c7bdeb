"""DICOM: what a header says, and one frame as grey levels or colours.

Runs in the decoder's process only. Nothing of a header leaves it but what was asked for by name.
"""

from __future__ import annotations

import io
import re
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..options import FIXED, Values
from .decode import BadImage, Decoded, check_size
from .dicom_levels import of_colours, of_greys
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
            return of_greys(ds, pixels, values) if grey else of_colours(ds, pixels, values)
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
