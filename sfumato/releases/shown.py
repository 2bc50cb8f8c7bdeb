"""The pictures of a report: of every class, of a model beside its base, of a token and controls."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from sfumato.pages import Picture, beside, counted, grid
from sfumato.releases.beside import ROWS
from sfumato.releases.contents import Contents, Example

MOST_CLASSES = 36
# of a report: with the largest pictures that a page holds, about two megabytes
MOST_PICTURES = 120
SAMPLE_ROWS = {
    "adapted": ("the adapted model", "drawn by the adapted model"),
    "base": ("the public base, same prompts and seeds", "drawn by the public base alone"),
}
TOKEN_ROWS = {"released": "adapted", "anchor": "base", "noise-only": "noise-only"}


def by_class(contents: Contents) -> list[tuple[str, str, Markup]]:
    """(class, how many pictures in words, grid) for every class that is shown."""
    shown = list(contents.examples.items())[:MOST_CLASSES]
    most = max(2, MOST_PICTURES // max(1, len(shown)))
    found = []
    for label, examples in shown:
        few = examples[:most]
        said = f"of {len(few)} synthetic pictures of class {label}"
        pictures = [_picture(e, f"picture {i} {said}", label) for i, e in enumerate(few, 1)]
        found.append((label, counted(len(few), "synthetic "), grid(pictures)))
    return found


def samples(contents: Contents) -> Markup | None:
    """Pictures of an adapted model beside those of its public base; None without any."""
    columns = {
        name: _row(contents.samples[row], said)
        for row, (name, said) in SAMPLE_ROWS.items()
        if row in contents.samples
    }
    return beside(columns) if columns else None


def controls_drawn(controls: dict[str, Any] | None, contents: Contents) -> Markup | None:
    """Pictures of a token beside those of its controls: the draft's, or those of an export."""
    if controls is None:
        return None
    rows = {
        name: [Example(image) for image in controls["pictures"].get(name, ())]
        or contents.samples.get(TOKEN_ROWS[name], [])
        for name in ROWS
    }
    if not any(rows.values()):
        return None
    return beside(
        {ROWS[name]: _row(found, f"drawn with {ROWS[name]}") for name, found in rows.items()}
    )


def _row(examples: list[Example], said: str) -> list[Picture]:
    return [
        _picture(example, f"picture {i} of {len(examples)}, {said}")
        for i, example in enumerate(examples, 1)
    ]


def _picture(example: Example, said: str, label: str | None = None) -> Picture:
    told = [] if label is None else [f"class {label}"]
    told += [] if example.prompt is None else [f"prompt \u201c{example.prompt}\u201d"]
    told += [] if example.seed is None else [f"seed {example.seed}"]
    prompted = "" if label is not None or example.prompt is None else f", {told[0]}"
    alt = said + prompted + ("" if example.seed is None else f", seed {example.seed}")
    return Picture(example.image, alt, ", ".join(told), quote(example.name))
