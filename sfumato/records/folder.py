"""Folders of image files: which files are records, and reading them without leaving the folder."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import DataError
from .decode import MAX_BYTES, BadImage
from .rules import refuse
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
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
TEXTS = (".txt", ".caption")
CAPTIONS = "texts that may be captions (none is read or trained on)"
LINK_OUT = "symbolic link out of the folder"


@dataclass(frozen=True)
class FileReader:
    """Reads slot -> bytes of files below `root`.

    Raises BadImage with the rule for a file that it may not read.
    """

    root: Path
    names: tuple[str, ...]

    def __call__(self, slot: int) -> bytes:
        """The encoded file of a slot."""
        return read_below(self.root, self.names[slot])

    def kind(self, slot: int) -> str | None:
        """What its first bytes say (`sniff.kind_of`); None where they cannot be read."""
        try:
            return kind_of(read_below(self.root, self.names[slot], HEAD), self.names[slot])
        except BadImage:
            return None


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


def as_stored(root: Path, name: str) -> str:
    """A table's name for a file as the file is spelt below `root`; the name if none of them is.

    Windows writes backslashes, and some systems store accents as marks of their own. Only these
    forms of this one name are looked for: no other file and no other row decides.
    """
    slashes = name.replace("\\", "/")
    forms = (name, slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")))
    return next((form for form in forms if "\0" not in form and _is_there(root / form)), name)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for a file
        return False


def split_folder(root: Path, split: str) -> Path:
    """`root`/train (or the wanted split) if there are folders for splits, else `root` itself."""
    folders = _folders(root)
    if folders and all(f.lower() in SPLITS for f in folders):
        if split not in folders:
            raise DataError(
                f"the folder holds the splits {', '.join(folders)} but no {split!r}: give one of"
                " them as the path"
            )
        return root / split
    return root


def class_folders(
    root: Path, refusals: list[str] | None = None
) -> tuple[list[str], list[str], Counter]:
    """Relative names of the images in class folders, their classes, and files left out by reason.

    Raises DataError for an empty folder; for an empty class, images without a class, or nothing but
    links, unless somebody only looks: then these are left out, and why goes into `refusals`.
    """
    folders, ignored = _folders(root), Counter()
    loose = [f for f in sorted(os.listdir(root)) if _is_picture(root / f)]
    links = sum(1 for f in os.listdir(root) if (root / f).is_symlink() and (root / f).is_dir())
    if links:
        ignored["symbolic links to folders"] = links
    if not folders:
        if loose:
            raise DataError(
                "a flat folder of images has no classes: make one folder per class, "
                "add metadata.csv (file_name,label), or use --unlabelled"
            )
        raise DataError(
            "the folder holds no images: give class folders, metadata.csv with its images,"
            " parquet, idx or npz"
        )
    if loose:
        refuse(
            f"{len(loose)} images lie beside the class folders: move them into a class folder",
            refusals,
        )
        ignored["image beside the class folders"] = len(loose)
    names, labels = [], []
    for folder in folders:
        found = walk(root / folder, ignored, within=root)
        if not found:
            out = ignored[LINK_OUT] + ignored["symbolic links to folders"]
            if out:
                why = (
                    f" but {out} symbolic links that lead out of the folder, which are not"
                    " followed: give a folder that holds both, or a copy of the files themselves"
                    " (cp -rL)"
                )
            else:
                why = ": fill it or remove it"
            refuse(f"class folder {folder!r} holds no images{why}", refusals)
        names += [f"{folder}/{name}" for name in found]
        labels += [folder] * len(found)
    return names, labels, ignored


def units_of(names: Sequence[str], level: int) -> list[str | None]:
    """The folder that stands for the unit of each image; None for an image that lies in none.

    It is the first folder on the image's way (`level` 0), or the one below its class (`level` 1).
    """
    parts = [name.split("/")[:-1] for name in names]
    return [part[level] if len(part) > level else None for part in parts]


def walk(root: Path, ignored: Counter, within: Path | None = None) -> list[str]:
    """Sorted relative names of all images below `root`.

    Links to folders and links out of `within` (default: `root`) are left out and counted in
    `ignored`.
    """
    names, inside = [], (within or root).resolve()
    for folder, folders, files in os.walk(root, followlinks=False):
        for name in [f for f in folders if os.path.islink(os.path.join(folder, f))]:
            ignored["symbolic links to folders"] += 1
            folders.remove(name)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in files:
            path = Path(folder) / name
            if name.startswith(".") or not _is_picture(path):
                why = CAPTIONS if path.suffix.lower() in TEXTS else "not an image"
                ignored[why] += not name.startswith(".")
            elif path.is_symlink() and not path.resolve().is_relative_to(inside):
                ignored[LINK_OUT] += 1
            else:
                names.append(path.relative_to(root).as_posix())
    return sorted(names)


def is_flat(root: Path) -> bool:
    """Whether `root` is a plain folder of images: no class folders and no table."""
    if (
        not root.is_dir()
        or _folders(root)
        or any(path.suffix in (".csv", ".jsonl", ".parquet", ".npz") for path in root.iterdir())
    ):
        return False
    return any(_is_picture(path) for path in root.iterdir() if path.is_file())


def would_read(kind: str, source: str | Path, place: str | Path) -> bool:
    """Whether pictures made in `place` would be read with those of a folder, and be trained on.

    Args:
        kind: Layout of what is in `source`; tables and arrays say themselves what belongs to them.
        source: Where the private images are.
        place: A folder that may not be there yet.
    """
    return kind == "folder" and Path(place).resolve().is_relative_to(Path(source).resolve())


def _folders(root: Path) -> list[str]:
    return sorted(
        f
        for f in os.listdir(root)
        if (root / f).is_dir()
        and not (root / f).is_symlink()
        and not f.startswith((".", "__MACOSX"))
    )


def ending(name: str) -> str:
    """The ending of a file's name in lower case; that of a packed volume has two parts."""
    return PACKED if name.lower().endswith(PACKED) else PurePath(name).suffix.lower()


def _is_picture(path: Path) -> bool:
    own = ending(path.name)
    if own in READABLE | OTHER_PICTURES or own == PACKED:
        return path.is_file()
    if path.name.startswith(".") or not _BARE_ENDING.fullmatch(own) or not path.is_file():
        return False
    try:
        return kind_of(read_below(path.parent, path.name, HEAD)) == DICOM
    except BadImage:
        return False
