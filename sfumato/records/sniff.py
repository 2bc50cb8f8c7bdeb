"""What kind of file the first bytes are of: which decoder may see it, and whether it has frames.

Names are never trusted for it, except that DICOM without its preamble is taken for DICOM only where
a file is called so.
"""

from __future__ import annotations

HEAD = 352  # bytes that tell
DICOM, NIFTI, TIFF, HEIC = "DICOM", "NIfTI", "TIFF", "HEIC"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_NIFTI = ((348, 344, (b"n+1\0",)), (540, 4, (b"n+2\0",)))
_BARE = (b"\x08\0", b"\x02\0", b"\0\x08")  # the first group of DICOM without a preamble


def kind_of(head: bytes, name: str = "") -> str | None:
    """DICOM, NIFTI, TIFF or HEIC; None for anything else.

    Args:
        head: The first `HEAD` bytes, or more.
        name: What the file is called, if anything.
    """
    if head[128:132] == b"DICM":
        return DICOM
    if head[:2] in _BARE and name.lower().endswith((".dcm", ".dicom")):
        return DICOM
    if head[:4] in _TIFF:
        return TIFF
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return HEIC
    # the only thing in gzip that is read, and nothing is unpacked here
    if head[:2] == b"\x1f\x8b" or is_nifti(head):
        return NIFTI
    return None


def is_nifti(head: bytes) -> bool:
    """Whether these are the first bytes of an unpacked NIfTI file with its voxels in it."""
    for size, at, words in _NIFTI:
        if int.from_bytes(head[:4], "little") == size or int.from_bytes(head[:4], "big") == size:
            return head[at : at + 4] in words
    return False
