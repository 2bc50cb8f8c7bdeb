"""Pictures and pages that the studio hands to the browser: each kind from one place, by number.

No address holds a file name, and none of these is kept by a browser.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..pages import STYLE
from . import results
from .project import Project

HERE = Path(__file__).parent / "static"
STATIC = {"studio.css": "text/css; charset=utf-8", "studio.js": "text/javascript; charset=utf-8"}
STATIC |= {"icon.svg": "image/svg+xml"}
PAGES = {
    "statement": ("handed", "PRIVACY.html"),
    "report": ("handed", "report.html"),
    "evaluation": ("run", "evaluation/page.html"),
}
# A page of a verb has its style inside, pictures as data, and no script.
SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)
# A link between pages of a release leads nowhere from that box; the screen links to each of them.
LINK = re.compile(rb'<a href="[^#"][^"]*"[^>]*>(.*?)</a>', re.S)
MOST = 100_000_000


def static(name: str) -> Response:
    """A file of this package."""
    if name == "style.css":
        return Response(str(STYLE), media_type="text/css")
    if name not in STATIC:
        raise HTTPException(404)
    return Response((HERE / name).read_bytes(), media_type=STATIC[name])


def picture(project: Project, kind: str, number: int) -> Response:
    """A sheet of thumbnails, one of samples, or one picture that was drawn; PNG."""
    if kind == "sheet":
        return _png(project.folder / f"sheet-{number}.PRIVATE.png", project.folder)
    if kind == "sample":
        return _png(project.run / "samples" / f"step-{number:06d}.png", project.run)
    if kind == "public":
        return _png(project.run / "samples" / "public" / f"{number:02d}.png", project.run)
    if kind in ("base", "anchor"):
        data = results.of_draft(project, kind, number)
        if data is None:
            raise HTTPException(404)
        return _as_png(data)
    if kind == "drawn":
        rows = results.rows(project)
        if number < len(rows):
            return _png(project.release / str(rows[number].get("file_name")), project.release)
    raise HTTPException(404)


def document(project: Project, name: str) -> Response:
    """A statement, report or evaluation, in a box of its own."""
    if name not in PAGES:
        raise HTTPException(404)
    place, file = PAGES[name]
    top: Path = getattr(project, place)
    headers = {"content-security-policy": SANDBOX, "x-frame-options": "SAMEORIGIN"}
    text = LINK.sub(rb"\1", _read(top / file, top))
    return Response(text, media_type="text/html", headers=headers)


def _png(path: Path, top: Path) -> Response:
    return _as_png(_read(path, top))


def _as_png(data: bytes) -> Response:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise HTTPException(404)
    return Response(data, media_type="image/png", headers={"cache-control": "no-store"})


def _read(path: Path, top: Path) -> bytes:
    """A file below a folder, whatever links and names say."""
    try:
        found = path.resolve(strict=True)
        if not found.is_relative_to(top.resolve()) or not found.is_file():
            raise HTTPException(404)
        with open(found, "rb") as stream:
            data = stream.read(MOST + 1)
    except OSError:
        raise HTTPException(404) from None
    if len(data) > MOST:
        raise HTTPException(404)
    return data
