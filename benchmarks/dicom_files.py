"""Every file that pydicom and pydicom-data carry: read, left out or refused, by transfer syntax.

    python -m benchmarks.dicom_files

Each goes through the bounded process as `sfumato inspect` would take it: the middle frame, by the
fixed rules. It is compared with pydicom's own transforms (pixel_array, apply_modality_lut,
apply_voi_lut, apply_color_lut), spread over what they may reach and turned for MONOCHROME1. Prints
the table of docs/data.md. Needs sfumato[medical] and pydicom-data.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import data_store
import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from sfumato.records import bounded
from sfumato.records.sniff import DICOM, HEAD, kind_of

ROOTS = (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data")
GREYS = ("MONOCHROME1", "MONOCHROME2")


def span(ds: pydicom.Dataset) -> tuple[float, float]:
    """What values may reach after the transforms."""
    if ds.get("VOILUTSequence"):
        return 0.0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    if ds.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = ds.BitsStored
    ends = (
        (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
        if ds.PixelRepresentation
        else (0.0, 2.0**bits - 1)
    )
    if "RescaleSlope" in ds:
        slope, intercept = float(ds.RescaleSlope), float(ds.RescaleIntercept)
        return ends[0] * slope + intercept, ends[1] * slope + intercept
    return ends


def by_pydicom(path: Path, index: int) -> np.ndarray | None:
    """uint8 [H, W] or [H, W, 3] by pydicom's transforms alone; None where it applies none.

    It leaves out those that stand in functional groups.
    """
    ds = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:  # read as what it is: pydicom decodes none of these
        return None
    if ds.get("SharedFunctionalGroupsSequence"):
        return None
    if ds.PhotometricInterpretation not in GREYS:
        colours, most = pixel_array(ds, index=index), 2.0**ds.BitsStored - 1
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            colours = apply_color_lut(colours, ds)
            most = float(np.iinfo(colours.dtype).max)
        return np.floor(colours.astype(np.float64) / most * 255 + 0.5).astype(np.uint8)
    shown = apply_voi_lut(apply_modality_lut(pixel_array(ds, index=index), ds), ds)
    low, high = span(ds)
    share = np.clip((shown.astype(np.float64) - low) / (high - low), 0, 1)
    levels = np.floor(share * 255 + 0.5).astype(np.uint8)
    return 255 - levels if ds.PhotometricInterpretation == "MONOCHROME1" else levels


def syntax_of(data: bytes) -> str:
    """Name of a file's transfer syntax."""
    meta = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True).file_meta
    return meta.TransferSyntaxUID.name if "TransferSyntaxUID" in meta else "not said"


def main() -> None:
    """Prints the table and what it was made with."""
    files = [path for root in ROOTS for path in sorted(root.rglob("*")) if path.is_file()]
    bytes_of = [path.read_bytes() for path in files]
    places = [
        at for at, data in enumerate(bytes_of) if kind_of(data[:HEAD], files[at].name) == DICOM
    ]
    files, bytes_of = [files[at] for at in places], [bytes_of[at] for at in places]
    n = len(files)
    said = dict(bounded.headers(bytes_of.__getitem__, range(n), []))
    middle = [head["frames"] // 2 if isinstance(head := said[at], dict) else 0 for at in range(n)]
    seen = dict(bounded.look(bytes_of.__getitem__, n, frame=middle.__getitem__))
    pixels = dict(bounded.hand_over(bytes_of.__getitem__, range(n), frame=middle.__getitem__))
    rows: dict[str, Counter] = defaultdict(Counter)
    for at, path in enumerate(files):
        row, head = rows[syntax_of(bytes_of[at])], said[at]
        row["files"] += 1
        if isinstance(head, dict) and not head["picture"]:
            row["left out"] += 1
        elif isinstance(seen[at], str):
            row[seen[at]] += 1
        else:
            row["read"] += 1
            want = by_pydicom(path, middle[at])
            row["compared"] += want is not None
            row["equal"] += want is not None and np.array_equal(
                want, pixels[at] if want.ndim == 3 else pixels[at][..., 0]
            )
    rules = sorted(
        {name for row in rows.values() for name in row}
        - {"files", "left out", "read", "compared", "equal"}
    )
    names = ["files", "read", "compared", "equal", "left out", *rules]
    print("| transfer syntax | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    total: Counter = Counter()
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["files"]):
        total.update(row)
        print(f"| {name} | " + " | ".join(str(row[key]) for key in names) + " |")
    print("| **all** | " + " | ".join(str(total[key]) for key in names) + " |")
    print(f"\npydicom {pydicom.__version__}, numpy {np.__version__}; {n} files")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    main()
