"""The files that a table means: paths of other machines, of Windows and Macs, nested or bare."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...errors import DataError
from ..folder import READABLE, is_picture
from ..trees import Tree, stem


@dataclass(frozen=True)
class Names:
    """Names that a table gives, as names of files in a tree.

    Each is looked for by itself, in this order: as it is spelt; with "/" for a backslash and
    accents composed otherwise; without the folders in front that are not here (an absolute path of
    another machine); whatever its capitals, if one file has that name; and, for a name without a
    folder, in any folder, where one file has it. A name without the suffix of a picture is tried
    with one. No other row decides.
    """

    tree: Tree
    table: str

    def found(self, names: Sequence[str | None]) -> list[str]:
        """A file for each name; the name itself where there is none.

        DataError if two names lead to one file, or a name to several.
        """
        of: dict[str, str] = {}  # name -> file
        for name in names:
            if name and name not in of:
                of[name] = self._one(name)
        known, back = self.tree.known, {}
        for name, file in of.items():
            other = back.setdefault(file, _plain(name))
            if file in known and other != _plain(name):
                raise DataError(
                    f"{self.table} names one file in two ways, as if it were two: write each"
                    " image's path from the folder of the table"
                )
        return [of[name] if name else "" for name in names]

    def _one(self, name: str) -> str:
        for form in self._forms(name):
            if form in self.tree.known or form in self._links:
                return form
        folded = self._by_case.get(_key(_plain(name)).casefold(), [])
        if len(folded) == 1:
            return folded[0]
        found = [] if "/" in _plain(name) else self._by_base.get(_key(name), [])
        if len(found) > 1:
            raise DataError(
                f"{self.table} names files that lie in several folders here: write their folders,"
                " too"
            )
        return found[0] if found else self._elsewhere(name)

    def _forms(self, name: str) -> Iterator[str]:
        plain = _plain(name)
        tails = [name, plain, self._from_here(plain)]
        parts = [part for part in PurePosixPath(plain).parts if part not in ("/", ".")]
        for first in range(len(parts)):
            tails.append("/".join(parts[first:]))
            if parts[first] in self._folders:  # here, so the file is looked for in it alone
                break
        suffixes = [""] if is_picture(plain) else ["", *sorted(READABLE)]
        for form in dict.fromkeys(tail for tail in tails if tail):
            for suffix in suffixes:
                yield from _composed(form + suffix)

    def _from_here(self, plain: str) -> str | None:
        """An absolute path into the tree, from its root."""
        if not plain.startswith("/"):
            return None
        try:
            return Path(plain).relative_to(self.tree.place.absolute()).as_posix()
        except ValueError:
            return None

    @cached_property
    def _folders(self) -> set[str]:
        return {name.split("/")[0] for name in self.tree.names if "/" in name}

    @cached_property
    def _links(self) -> set[str]:
        return {name for name, _ in self.tree.links}

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        """Files by their names in small letters."""
        found: dict[str, list[str]] = {}
        for name in self.tree.pictures:
            found.setdefault(_key(name).casefold(), []).append(name)
        return found

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        """Files by their name alone, with and without its suffix."""
        found: dict[str, list[str]] = {}
        for name in self.tree.pictures:
            for key in {_key(_base(name)), _key(_base(stem(name)))}:
                found.setdefault(key, []).append(name)
        return found

    def _elsewhere(self, name: str) -> str:
        """A name of no file here; DataError if it is one outside the place."""
        plain = _plain(name)
        if not (plain.startswith("/") or plain[1:2] == ":"):
            return name
        try:
            there = Path(plain).is_file()
        except (OSError, ValueError):
            there = False
        if there:
            raise DataError(
                f"{self.table} names a file outside its folder: give paths relative to the table,"
                " without '..', and a folder that holds both"
            )
        return plain.lstrip("/") or name


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _composed(name: str) -> Iterator[str]:
    yield name
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, name)


def _base(name: str) -> str:
    return _plain(name).rsplit("/", 1)[-1]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)
