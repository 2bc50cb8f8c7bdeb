"""Pictures on a page: a grid that wraps, each enlarged by a click or a key, without any script."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

EXACT = 128  # pixels: up to this size a page holds the picture as it is
SIDE = 256  # a larger one is shown at this size
FEW = 64  # up to this size every pixel is shown as a square
QUALITY = 85
# of the line above pictures; a printed page cannot be clicked
ENLARGE = Markup('<span class="screen"> A click or the enter key enlarges one.</span>')


@dataclass(frozen=True)
class Picture:
    """One picture of a page.

    Attributes:
        image: A PNG's bytes, or uint8 pixels [R, R, 3].
        alt: What a reader who does not see it is told.
        note: The line under the enlarged picture.
        link: Relative address of the file itself, if it lies beside the page.
    """

    image: bytes | np.ndarray
    alt: str
    note: str = ""
    link: str = ""


def grid(pictures: Sequence[Picture]) -> Markup:
    """The pictures in order, at 96 CSS pixels or more, wrapping at the page's width."""
    return Markup('<div class="pictures">\n{}</div>\n').format(Markup().join(map(_one, pictures)))


def beside(columns: Mapping[str, Sequence[Picture]]) -> Markup:
    """Grids side by side under their names, one below the other on a narrow screen.

    One call for each class lets a reader compare, say, private, public and synthetic pictures.
    """
    parts = (
        Markup("<figure><figcaption>{}</figcaption>\n{}</figure>\n").format(name, grid(pictures))
        for name, pictures in columns.items()
    )
    return Markup('<div class="beside">\n{}</div>\n').format(Markup().join(parts))


def counted(n: int, kind: str) -> str:
    """A number of pictures in words: "one synthetic picture", "12 synthetic pictures"."""
    words = "no one two three four five six seven eight nine ten".split()
    return f"{words[n] if n < len(words) else n} {kind}picture{'' if n == 1 else 's'}"


def _one(picture: Picture) -> Markup:
    uri, width, height = _data(picture.image)
    note = Markup("{}").format(picture.note)
    if picture.link:
        note += Markup(' <a href="{}">Open the file</a>').format(picture.link)
    few = Markup(' class="few"') if max(width, height) <= FEW else ""
    image = Markup('<img{} src="{}" width="{}" height="{}" alt="{}" loading="lazy"/>').format(
        few, uri, width, height, picture.alt
    )
    return Markup("<details><summary>{}</summary><p>{}</p></details>\n").format(image, note)


def _data(image: bytes | np.ndarray) -> tuple[str, int, int]:
    """(data URI, width, height): small pictures bit by bit, larger ones reduced and as JPEG."""
    found = (
        Image.open(io.BytesIO(image), formats=["PNG"])
        if isinstance(image, bytes)
        else Image.fromarray(image)
    ).convert("RGB")
    out, kind = io.BytesIO(), "png"
    if max(found.size) <= EXACT:
        found.save(out, "PNG", optimize=True)
    else:
        found.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        found.save(out, "JPEG", quality=QUALITY, optimize=True)
        kind = "jpeg"
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{text}", found.width, found.height
