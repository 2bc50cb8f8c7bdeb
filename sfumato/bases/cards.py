"""What a pipeline's own card says of the pictures that it learnt from."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_CARD = 2**20  # bytes
LONGEST = 300  # characters that are shown
# in this order: a section on the data goes before one on the training in general
_HEADINGS = (
    re.compile(r"^#{1,6} .*training.*data|^#{1,6} .*\bdata\b.*train"),
    re.compile(r"^#{1,6} *sources *$"),
    re.compile(r"^#{1,6} *training *$"),
)


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
    for heading in _HEADINGS:
        for place, line in enumerate(lines):
            plain = line.strip().lower()
            bold = heading is _HEADINGS[0] and plain.startswith("**training data**")
            if bold or heading.match(plain):
                own = [line.strip()[len("**training data**") :]] if bold else []
                if text := _paragraph(own, lines[place + 1 :]):
                    return text
    return ""


def _paragraph(rest: list[str], lines: list[str]) -> str:
    """`rest` and the lines up to the next empty one or heading.

    Of a list or a table the names that its points or rows begin with.
    """
    for below in lines:
        if below.startswith("#") or (not below.strip() and any(rest)):
            break
        rest.append(below.strip())
    said = [part for part in rest if part]
    if said and all(part.startswith("- ") for part in said):
        return ", ".join(part[2:].split(": ")[0].replace("`", "") for part in said)
    if len(said) > 2 and all(part.startswith("|") for part in said):
        return ", ".join(part.split("|")[1].replace("`", "").strip() for part in said[2:])
    return " ".join(said)
