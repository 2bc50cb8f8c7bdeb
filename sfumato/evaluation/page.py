"""The owner's page of an evaluation: images of every row for the same prompts, with its figures.

PRIVATE, as it states itself.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from sfumato.evaluation.utility import UtilityRow

MOST = 10  # pictures of a row
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0"
    " 1rem;color-scheme:light dark}table{border-collapse:collapse;margin:1rem"
    " 0}th,td{text-align:left;padding:.4rem 1rem .4rem 0;border-bottom:1px solid"
    " #8886}img{image-rendering:pixelated;height:48px}.private{border:2px solid #b00;padding:.6rem"
    " 1rem}"
)


def few(labels: np.ndarray, most: int = MOST) -> np.ndarray:
    """Positions int64 of at most `most` images.

    The first of every class, then the second of every class, and so on.
    """
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(own.sum())
    return np.lexsort((labels, turn))[:most]


def as_text(
    images: Mapping[str, int],
    utility: Mapping[str, Sequence[UtilityRow]],
    distances: Mapping[str, Mapping[str, Any]],
    cosines: Mapping[str, float],
) -> dict[str, dict[str, str]]:
    """The figures of an evaluation as row -> column -> text."""
    found = {row: {"images": f"{count:,}"} for row, count in images.items()}
    for row, results in utility.items():
        found[row] |= {f"{r.classifier}, %": f"{100 * r.mean:.2f}" for r in results}
    for row, own in distances.items():
        plain = {
            name: v["mean"] if isinstance(v, dict) else v
            for name, v in own.items()
            if name != "manifold"
        }
        found[row] |= {name: f"{value:.4g}" for name, value in plain.items()}
    for row, value in cosines.items():
        found.setdefault(row, {})["token's cosine to the exact mean, from the anchor"] = (
            f"{value:.2f}"
        )
    return found


def page(
    title: str, figures: Mapping[str, Mapping[str, str]], pictures: Mapping[str, np.ndarray]
) -> str:
    """HTML of one file.

    figures: row -> column -> text; pictures: row -> uint8 [n, R, R, 3], for rows that may be shown.
    """
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("row", "pictures", *columns))
    body = "".join(
        f"<tr><td>{escape(row)}</td><td>{_strip(pictures.get(row))}</td>"
        + "".join(f"<td>{escape(found.get(name, ''))}</td>" for name in columns)
        + "</tr>\n"
        for row, found in figures.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>PRIVATE:'
        f" {escape(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n<p"
        ' class="private"><b>PRIVATE.</b> Computed from private or held-out images without noise.'
        " No epsilon covers it. It stays in the run folder, and choosing what to release by it"
        " would void the"
        f" claim.</p>\n<h1>{escape(title)}</h1>\n<table>\n<tr>{heads}</tr>\n{body}</table>\n<p>Rows"
        " show the same prompts and seeds; the real images are not shown.</p></body></html>\n"
    )


def _strip(images: np.ndarray | None) -> str:
    if images is None or not len(images):
        return ""
    out = io.BytesIO()
    Image.fromarray(np.concatenate(list(images), 1)).save(out, "PNG")
    return (
        '<img alt=""'
        f' src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode("ascii")}"/>'
    )
