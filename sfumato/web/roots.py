"""Which folders the page may name: those below the roots that the owner gave, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MOST = 40  # folders that a completion lists
LONGEST = 4096


class Outside(Exception):
    """A path that is none, or that no root holds. What it was is not repeated."""


class Roots:
    """The chosen folders.

    `named`: the owner named them; they are not just the home folder.
    """

    def __init__(self, roots: Sequence[Path], named: bool = True) -> None:
        self.roots, self.named = tuple(root.resolve() for root in roots), named

    def place(self, text: str) -> Path:
        """The folder or file that a text names, with links followed.

        Raises:
            Outside: It lies below no root, or is no path of an existing thing.
        """
        text = text.strip()
        if not text or len(text) > LONGEST or any(ord(c) < 32 for c in text):
            raise Outside("name a folder")
        try:
            named = Path(text).expanduser()
            found = (named if named.is_absolute() else self.roots[0] / named).resolve()
            inside = any(found.is_relative_to(root) for root in self.roots)
            there = inside and found.exists()
        except (OSError, RuntimeError, ValueError):
            raise Outside("name a folder") from None
        if not inside:
            raise Outside(
                "that lies outside the folders that this studio may open, which are named under the"
                " field: choose one below them, or start it again with `sfumato studio FOLDER`"
                " (in a clone, `make studio IMAGES=FOLDER`)"
            )
        if not there:
            raise Outside("nothing is there: check the spelling")
        return found

    def complete(self, text: str) -> list[str]:
        """Folders that begin as the text does, at most `MOST`; hidden ones are left out."""
        if not text.strip():
            return [str(root) for root in self.roots]
        head, _, begun = text.rpartition("/")
        try:
            folder = self.place(head or "/")
            names = sorted(
                entry.name
                for entry in folder.iterdir()
                if entry.name.lower().startswith(begun.lower())
                and not entry.name.startswith(".")
                and entry.is_dir()
            )
        except (Outside, OSError):
            wanted = text.rstrip("/")
            return [str(root) for root in self.roots if str(root).startswith(wanted)]
        return [f"{folder}/{name}" for name in names[:MOST]]
