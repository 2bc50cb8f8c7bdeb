"""Small DICOM and NIfTI files that tests make, and the files that pydicom ships."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

Dataset, FileMetaDataset = pydicom.dataset.Dataset, pydicom.dataset.FileMetaDataset
SHIPPED = Path(pydicom.__file__).parent / "data"
MR, CT = SHIPPED / "test_files" / "MR_small.dcm", SHIPPED / "test_files" / "CT_small.dcm"


def dataset(pixels: np.ndarray, **tags: Any) -> Any:
    """Grey [H, W], grey frames [n, H, W] or colours [H, W, 3] as a data set, with these tags."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3.4"
    ds.PatientID, ds.StudyInstanceUID, ds.Modality = "p1", "1.2.3", "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colour:
        ds.NumberOfFrames = len(pixels)
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.HighBit = ds.BitsStored - 1
    ds.add_new(0x7FE00010, "OB" if ds.BitsAllocated == 8 else "OW", pixels.tobytes())
    return ds


def encoded(ds: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def scan(pixels: np.ndarray, **tags: Any) -> bytes:
    return encoded(dataset(pixels, **tags))


def sequence(**tags: Any) -> list[Any]:
    """One item with these tags."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def volume(voxels: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_bytes()
