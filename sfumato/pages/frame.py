"""The frame of a page."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

STYLE = Markup((Path(__file__).parent / "style.css").read_text("utf-8"))


def page(title: str, body: Markup, *, style: str = "", head: Markup | None = None) -> str:
    """A whole HTML document.

    Args:
        title: Of the window; the page's own `<h1>` belongs to `body`.
        body: What stands in `<main>`.
        style: Rules of this page alone, after the common ones.
        head: More elements of its `<head>`.
    """
    return Markup(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        '<meta name="color-scheme" content="light dark"/>\n{}<title>{}</title>\n'
        "<style>\n{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n"
    ).format(head or Markup(), title, STYLE, Markup(style), body)
