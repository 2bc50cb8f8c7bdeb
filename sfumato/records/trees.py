"""Files by name, wherever their bytes lie: in a folder, or in a zip or tar that stays packed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError
from .archives import MEMBER
from .decode import MAX_BYTES, BadImage
from .folder import (
    LINK_OUT,
    OWN_SAID,
    ending,
    is_bare_dicom,
    is_hidden,
    is_own,
    is_picture,
    read_below,
)
from .sniff import HEAD, kind_of
from .unpacked import fetched, listed

LINKED_FOLDER = "symbolic links to folders"
NO_CONTENT = "links to files that are not there"
MOST_TEXT = 2**20  # bytes of a caption or label beside a picture
ZIPS, TARS = (".zip",), (".tar",)
PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class Tree:
    """Files below one place.

    Attributes:
        place: The folder or archive.
        names: Of all files that are not hidden, sorted, with "/" between folders.
        read: Name -> bytes; BadImage with the rule for a file that it may not read.
        links: (Name, reason) of links that are not followed, and of files that are never data.
        empty: Folders that hold nothing.
        bare: Pictures without the ending of one: DICOM, by their first bytes.
        first: Name -> the first bytes of a file; None: the whole file has to be read for them.
        shared: Name -> the file, of files that have another name as well: by a link, or in a tar.
    """

    place: Path
    names: tuple[str, ...]
    read: Callable[[str], bytes]
    links: tuple[tuple[str, str], ...] = ()
    empty: tuple[str, ...] = ()
    bare: frozenset[str] = frozenset()
    first: Callable[[str], bytes] | None = field(default=None, repr=False)
    shared: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    known: frozenset[str] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(self.names))

    @property
    def pictures(self) -> list[str]:
        """Names of pictures, also of those that cannot be decoded: they keep a slot."""
        return [name for name in self.names if is_picture(name) or name in self.bare]

    def below(self, folder: str) -> Tree:
        """What lies in a folder of it; names without the folder."""
        if not folder:
            return self
        start = folder + "/"

        def within(names: Iterable[str]) -> list[str]:
            return [name.removeprefix(start) for name in names if name.startswith(start)]

        links = tuple((n.removeprefix(start), why) for n, why in self.links if n.startswith(start))
        read, first = self.read, self.first
        return Tree(
            self.place / folder,
            tuple(within(self.names)),
            lambda name: read(start + name),
            links,
            tuple(within(self.empty)),
            frozenset(within(self.bare)),
            None if first is None else lambda name: first(start + name),
            dict(zip(within(self.shared), (self.shared[start + n] for n in within(self.shared)))),
        )

    def numbers_of(self, files: Sequence[str]) -> np.ndarray:
        """int64 [n]: the same number for records of one file; no file is one of its own."""
        known: dict[str, int] = {}
        names = [self.shared.get(file, file) for file in files]
        own = [known.setdefault(name, i) if name else i for i, name in enumerate(names)]
        return np.array(own, np.int64)

    def text(self, name: str) -> str | None:
        """A small UTF-8 text; None if it is missing, too long or of another encoding."""
        try:
            data = self.read(name)
        except BadImage:
            return None
        if len(data) > MOST_TEXT:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    def left_out(self) -> Counter:
        """Links that are not followed, and files that are never data, by reason."""
        return Counter(why for _, why in self.links)


@dataclass(frozen=True)
class TreeReader:
    """Reads slot -> encoded picture of named files; by these the owner is told of bad ones."""

    tree: Tree
    names: tuple[str, ...]

    def __call__(self, slot: int) -> bytes:
        """The encoded file of a slot."""
        return self.tree.read(self.names[slot])

    def kind(self, slot: int) -> str | None:
        """What its first bytes say (`sniff.kind_of`); None where they cannot be read."""
        name = self.names[slot]
        try:
            return kind_of((self.tree.first or self.tree.read)(name), name)
        except BadImage:
            return None

    def taken(self, at: np.ndarray) -> TreeReader:
        """The reader of some places, in their order."""
        return replace(self, names=tuple(self.names[place] for place in at.tolist()))


def is_archive(path: Path) -> bool:
    """Whether a path is a zip or tar that is read in place."""
    return path.suffix.lower() in ZIPS + TARS and path.is_file()


def tree_of(path: Path) -> Tree:
    """The files of a folder, or of a zip or tar. DataError for a damaged archive."""
    if path.is_dir():
        return _folder(path)
    return archive_tree(path)


def _folder(root: Path) -> Tree:
    names: list[str] = []
    links: list[tuple[str, str]] = []
    empty: list[str] = []
    bare: list[str] = []
    leads: dict[str, str] = {}  # link -> what it leads to
    inside = root.resolve()
    start = len(str(root)) + 1 if str(root) != "/" else 1
    for folder, folders, files in os.walk(root, followlinks=False):
        prefix = folder[start:].replace(os.sep, "/")
        prefix = prefix + "/" if prefix else ""
        for name in [f for f in folders if os.path.islink(os.path.join(folder, f))]:
            folders.remove(name)
            if not is_hidden(name):
                links.append((prefix + name, LINKED_FOLDER))
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        if prefix and not folders and all(map(is_hidden, files)):
            empty.append(prefix[:-1])
        for name in files:
            if is_hidden(name):
                continue
            path = Path(folder, name)
            if is_own(name):
                links.append((prefix + name, OWN_SAID))
                continue
            if not path.is_symlink():
                if path.is_file():  # no pipe, no device
                    names.append(prefix + name)
                    if not is_picture(name) and is_bare_dicom(path):
                        bare.append(prefix + name)
            elif is_picture(name) and not _is_inside(path, inside):
                links.append((prefix + name, LINK_OUT))
            elif path.is_file():
                names.append(prefix + name)
                leads[prefix + name] = os.path.relpath(path.resolve(), inside).replace(os.sep, "/")
            elif is_picture(name):
                links.append((prefix + name, NO_CONTENT))
    return Tree(
        root,
        tuple(sorted(names)),
        partial(read_below, root),
        tuple(links),
        tuple(sorted(empty)),
        frozenset(bare),
        partial(read_below, root, first=HEAD),
        # a file is known as itself only where a link leads to it
        {name: "/" + file for name, file in {**leads, **{f: f for f in leads.values()}}.items()},
    )


def _is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        return True


def archive_tree(path: Path) -> Tree:
    """The files of a zip or tar; nothing is unpacked to the disk."""
    if path.name.lower().endswith(PACKED_TARS):
        raise DataError(
            "a compressed tar cannot be read in place: decompress it (gunzip, bunzip2, unxz,"
            " unzstd), or unpack it and give the folder"
        )
    kind = "zip" if path.suffix.lower() in ZIPS else "tar"
    members: dict[str, list[int]] = {}
    for name, *where in listed(kind, [path])["members"]:
        plain = name.replace("\\", "/").removeprefix("./")
        parts = plain.split("/")
        if plain.startswith("/") or ".." in parts or plain[1:2] == ":":
            raise DataError(
                f"{path.name} names a file outside itself: pack it again with relative names"
            )
        if plain in members:
            raise DataError(
                f"{path.name} holds a member twice, and which of the two is meant cannot be"
                " known: pack it again with each name once"
            )
        if not (is_hidden(*parts) or is_own(plain)):
            members[plain] = where
    read = _read_zip(path, members) if kind == "zip" else _read_tar(path, members)
    at = Counter(where[0] for where in members.values())
    shared = {name: f"/{where[0]}" for name, where in members.items() if at[where[0]] > 1}
    return Tree(path, tuple(sorted(members)), read, shared=shared)


def listed_members(path: Path) -> list[tuple[str, int, int, int]]:
    """(Name, offset, bytes, whether it is a plain file) of each member of a tar."""
    return listed("tar", [path])["members"]


def _read_zip(path: Path, members: dict[str, list[int]]) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        if name not in members:
            raise BadImage("missing file")
        start, packed, size, how = members[name]
        if size > MAX_BYTES:
            raise BadImage("too large")
        return fetched("zip", path, start, packed, size, how)

    return read


def _read_tar(path: Path, members: dict[str, list[int]]) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        start, size, how = members.get(name, (0, 0, None))
        if how != MEMBER:
            raise BadImage("missing file")
        return read_at(path, start, size)

    return read


def read_at(path: Path, start: int, size: int) -> bytes:
    """Some bytes of a file; BadImage if they are not there any more."""
    if size > MAX_BYTES:
        raise BadImage("too large")
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            data = stream.read(size)
    except (OSError, MemoryError):
        raise BadImage("missing file") from None
    if len(data) != size:
        raise BadImage("truncated or damaged")
    return data


def stem(name: str) -> str:
    """A name without its ending."""
    own = ending(name)
    return name[: -len(own)] if own else name
