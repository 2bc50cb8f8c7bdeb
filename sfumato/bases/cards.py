"""What a pipeline's own card says of the pictures that it learnt from."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_CARD = 2**20  # bytes
LONGEST = 300  # characters that are shown
_HEADING = re.compile(r"^#{1,6} .*training.*data|^#{1,6} .*\bdata\b.*train|^#{1,6} *training *$")


def training_data(folder: Path) -> str | None:
    """The data sets that the head of a card names, and the first lines of its section on them.

    None where it says nothing. They are the maker's words: nothing here checks them.
    """
    card = folder / "README.md"
    try:
        if card.stat().st_size > LONGEST_CARD:
            return None
        lines = card.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    said = [part for part in (_named(lines), _section(lines)) if part]
    text = "; ".join(said)
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return (shown if len(shown) <= LONGEST else shown[:LONGEST].rstrip() + " ...") or None


def _named(lines: list[str]) -> str:
    """`datasets:` in the head of the card."""
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return ""
    head, found, inside = lines[1 : lines.index("---", 1)], [], False
    for line in head:
        if inside and line.lstrip().startswith("- "):
            found.append(line.lstrip()[2:].strip())
            continue
        inside = line.startswith("datasets:")
        if inside and (rest := line.partition(":")[2].strip(" []")):
            found += [name.strip() for name in rest.split(",")]
    return ", ".join(found)


def _section(lines: list[str]) -> str:
    """The first paragraph below a heading on training data; bold type counts as a heading."""
    for place, line in enumerate(lines):
        plain = line.strip().lower()
        bold = plain.startswith("**training data**")
        if not (bold or _HEADING.match(plain)):
            continue
        rest = [line.strip()[len("**training data**") :]] if bold else []
        for below in lines[place + 1 :]:
            if below.startswith("#") or (not below.strip() and any(rest)):
                break
            rest.append(below.strip())
        if text := " ".join(part for part in rest if part):
            return text
    return ""
