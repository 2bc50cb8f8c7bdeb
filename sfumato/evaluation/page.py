"""The owner's page of an evaluation: what it says, its figures, and pictures class by class.

PRIVATE, as it states itself: it shows real images.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

MOST = 4  # pictures of a row in a class
CLASSES = 30  # classes whose pictures are shown
LARGEST = 256  # pixels of a picture on the page
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;
color-scheme:light dark}
.private{border:2px solid #b00;padding:.6rem 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:1rem 0}
th,td{text-align:left;padding:.4rem 1rem .4rem 0;border-bottom:1px solid #8886}
td{font-variant-numeric:tabular-nums;white-space:nowrap}
.class{display:flex;flex-wrap:wrap;gap:1rem 2rem}
figure{margin:0;max-width:100%}
figcaption{font-size:.9rem}
.pictures{display:flex;flex-wrap:wrap;gap:.25rem}
.pictures img{width:112px;height:112px;image-rendering:pixelated}
"""
# Rows, in the words of the page; what is not here has the name it was given.
WORDS = {
    "held out": "real images, held out",
    "synthetic": "synthetic (the release)",
    "public_only": "public base alone",
    "noise_only": "noise alone",
    "one_image": "one image's token",
    "non_private": "without privacy",
    "reconstructed": "real images through the base's autoencoder",
    "real": "real images themselves",
}

Shown = Mapping[str, Mapping[str, np.ndarray]]


def by_class(
    images: np.ndarray, labels: np.ndarray, classes: Sequence[str], most: int = MOST
) -> dict[str, np.ndarray]:
    """The first images of each class, uint8 [k, R, R, 3], by the class's name."""
    first = {
        name: images[np.flatnonzero(labels == i)[:most]] for i, name in enumerate(classes[:CLASSES])
    }
    return {name: own for name, own in first.items() if len(own)}


def page(
    title: str, said: Sequence[str], figures: Mapping[str, Mapping[str, str]], shown: Shown
) -> str:
    """HTML of one file.

    Args:
        title: Of the page.
        said: The verdict, a sentence each.
        figures: Row -> column -> text.
        shown: Row -> class -> uint8 [k, R, R, 3].
    """
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("trained on", *columns))
    body = "".join(
        f'<tr><th scope="row">{escape(in_words(row))}</th>'
        + "".join(f"<td>{escape(found.get(name, ''))}</td>" for name in columns)
        + "</tr>\n"
        for row, found in figures.items()
    )
    classes = list(dict.fromkeys(name for own in shown.values() for name in own))
    sentences = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in said)
    pictures = "".join(_class(name, shown) for name in classes)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><meta name="viewport"'
        f' content="width=device-width"/><title>PRIVATE: {escape(title)}</title>\n<style>{STYLE}'
        '</style></head>\n<body>\n<p class="private"><b>PRIVATE.</b> It shows real images, and'
        " figures computed from private or held-out images without noise. No epsilon covers it. It"
        " stays in the run folder, and choosing what to release by it would void the claim.</p>\n"
        f"<h1>{escape(title)}</h1>\n{sentences}"
        f'<h2>Figures</h2>\n<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>'
        f"{body}</tbody></table></div>\n<h2>Pictures by class</h2>\n<p>The first {MOST}"
        f" of each class, at most {CLASSES} classes; rows that are drawn show the same prompts and"
        f" seeds.</p>\n{pictures}</body></html>\n"
    )


def in_words(row: str) -> str:
    """A row in the words of page and terminal."""
    return WORDS.get(row, row)


def _class(name: str, shown: Shown) -> str:
    rows = "".join(
        _figure(f"{in_words(row)}, class {name}", in_words(row), own[name])
        for row, own in shown.items()
        if name in own
    )
    return f'<h3>{escape(name)}</h3>\n<div class="class">\n{rows}</div>\n'


def _figure(what: str, caption: str, images: np.ndarray) -> str:
    pictures = "".join(
        f'<img alt="{escape(what)}, picture {number} of {len(images)}" src="{_png(image)}"/>'
        for number, image in enumerate(images, 1)
    )
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="pictures">{pictures}</div>'
        "</figure>\n"
    )


def _png(image: np.ndarray) -> str:
    """A picture as it stands in the page; larger ones are made smaller."""
    picture, out = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
