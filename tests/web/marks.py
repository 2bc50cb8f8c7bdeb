"""A marker in private pictures, their names, captions and tags, and where it is seen again."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from .conftest import Answer

MARK = "qqmarkerqq"
PNG = re.compile(rb"\x89PNG\r\n.*?IEND....", re.DOTALL)
# what an owner asks for by a click of its own, marked PRIVATE
ASKED_FOR = re.compile(r"/project-\d+/(picture/sheet/\d+|page/evaluation)")


def mark_all(images: Path, place: Path) -> Path:
    """A copy of class folders with the marker in every name, caption, tag and picture."""
    for number, source in enumerate(sorted(images.rglob("*.png"))):
        folder = place / source.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(source).convert("RGB")
        for at, byte in enumerate(MARK.encode()):
            picture.putpixel((at, number % 16), (byte,) * 3)
        tags = PngInfo()
        tags.add_text("Comment", f"{MARK}-tag")
        copy = folder / f"{MARK}-{number}.png"
        picture.save(copy, pnginfo=tags)
        copy.with_suffix(".txt").write_text(f"{MARK} caption")
    return place


def holds_mark(data: bytes) -> bool:
    """Whether it stands in some bytes, or in the pixels of a picture among them."""
    if MARK.encode() in data:
        return True
    pictures = (Image.open(io.BytesIO(m[0])).convert("L") for m in PNG.finditer(data))
    return any(MARK.encode() in picture.tobytes() for picture in pictures)


def shown(answers: Iterable[Answer]) -> list[str]:
    """Addresses whose answers show it, though nobody asked for a private picture."""
    return [
        one.path for one in answers if not ASKED_FOR.fullmatch(one.path) and holds_mark(one.text)
    ]
