"""Folders of image files: which files are records, and reading them without leaving the folder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePath

from .decode import MAX_BYTES, BadImage
from .sniff import DICOM, HEAD, kind_of

READABLE = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".dcm", ".dicom", ".nii"),
}
PACKED = ".nii.gz"
# DICOM often has no ending: a number, or the last part of a UID, stands there.
_BARE_ENDING = re.compile(r"(\.\d*)?|\.ima", re.IGNORECASE)
# A pipe that lies here as a file would be waited for. Windows has neither flag, nor such pipes.
_READING = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
# pictures we do not decode: they keep a slot, so that an undecodable patient does not change n
OTHER_PICTURES = {
    ".jp2",
    ".j2k",
    ".jxl",
    ".svg",
    ".psd",
    ".eps",
    ".fits",
    ".pdf",
    ".ico",
}
# What had a slot before DICOM and NIfTI were read.
OF_BEFORE = (READABLE | OTHER_PICTURES) - {".dicom", ".nii", ".hif", ".jxl"}
FOLDERS = ("folder", "inner", "kohya")  # layouts in which every picture below a place is a record
TEXTS = (".txt", ".caption")
CAPTIONS = "texts that may be captions (none is read or trained on)"
# What `inspect` writes for the owner's eyes: a sheet, a list of pairs, a list of bad files.
OWN = re.compile(r".+\.PRIVATE\.[A-Za-z0-9]+")
OWN_SAID = "sfumato's own PRIVATE files"
LINK_OUT = "symbolic link out of the folder"


def read_below(root: Path, name: str, first: int | None = None) -> bytes:
    """Bytes of the regular file `name` below `root`; its `first` so many, if that is said.

    Raises BadImage: missing, a link that leads out, or too large.
    """
    if not name or "\0" in name:
        raise BadImage("missing file")
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise BadImage(LINK_OUT)
        # What counts is what the stream gives, not what lay there a moment ago.
        with open(os.open(path, _READING), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise BadImage("missing file")
            data = stream.read(MAX_BYTES + 1 if first is None else first)
    except (OSError, RuntimeError, MemoryError):  # RuntimeError: a loop of links
        raise BadImage("missing file") from None
    if len(data) > MAX_BYTES:
        raise BadImage("too large")
    return data


def is_own(name: str) -> bool:
    """Whether a file is one that sfumato wrote for the owner's eyes: it is never data."""
    return OWN.fullmatch(PurePath(name).name) is not None


def would_read(kind: str, source: str | Path, place: str | Path) -> bool:
    """Whether pictures made in `place` would be read with those of a folder, and be trained on.

    Args:
        kind: Layout of what is in `source`; tables and arrays say themselves what belongs to them.
        source: Where the private images are.
        place: A folder that may not be there yet.
    """
    return kind in FOLDERS and Path(place).resolve().is_relative_to(Path(source).resolve())


def ending(name: str) -> str:
    """The ending of a file's name in lower case; that of a packed volume has two parts."""
    return PACKED if name.lower().endswith(PACKED) else PurePath(name).suffix.lower()


def is_picture(name: str) -> bool:
    """Whether a name is that of a picture."""
    own = ending(name)
    return own in READABLE or own in OTHER_PICTURES or own == PACKED


def is_hidden(*parts: str) -> bool:
    """Whether one of these names, of a file or of folders on the way to it, is hidden."""
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def is_bare_dicom(path: Path) -> bool:
    """Whether a file without the ending of a picture is DICOM, by its first bytes."""
    if not _BARE_ENDING.fullmatch(ending(path.name)):
        return False
    try:
        return kind_of(read_below(path.parent, path.name, HEAD)) == DICOM
    except BadImage:
        return False
