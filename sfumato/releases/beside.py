"""What a report may show beside a released token.

Figures and images of tokens that need no private image, and nothing else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.pages.forecast import SOMETHING, WORDS
from sfumato.releases.figures import number
from sfumato.releases.formats import check_png

ROWS = {
    "released": "the released token",
    "anchor": "the public anchor alone",
    "noise-only": "the same noise on a sum of nothing",
}
MOST_PICTURES = 10
CLEAR = 2.0  # distances from the anchor over that of noise: below it, noise may be all


def check_beside(found: Any) -> dict[str, Any] | None:
    """The controls of a draft, images as PNG bytes.

    SfumatoError for a row, a number or an image that may not be in a release.
    """
    if found is None:
        return None
    rule = SfumatoError(
        "the controls in the draft are not the ones that a release may hold: synthesize or export"
        " again"
    )
    try:
        rows, expected, pictures = found["rows"], found["expected"], found.get("pictures") or {}
        numbers = [
            row[name] for row in rows.values() for name in ("from_anchor", "cosine_with_anchor")
        ]
        numbers += [expected[name] for name in ("signal", "noise", "cosine")]
        shape = set(found) <= {"rows", "expected", "pictures"} and list(rows) == list(ROWS)
        shape = shape and all(len(row) == 2 for row in rows.values())
        # drafts of before the word have four fields
        shape = shape and len(expected) == 4 + ("word" in expected)
        shape = shape and expected.get("word", SOMETHING) in WORDS
        if (
            not shape
            or not isinstance(expected["known"], bool)
            or not all(map(_is_number, numbers))
        ):
            raise rule
        if pictures and list(pictures) != list(ROWS):
            raise rule
        pictures = {
            name: [base64.b64decode(text, validate=True) for text in drawn]
            for name, drawn in pictures.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise rule from None
    if any(not 1 <= len(drawn) <= MOST_PICTURES for drawn in pictures.values()):
        raise rule
    for name, drawn in pictures.items():
        for data in drawn:
            check_png(data, f"a picture of {name}")
    expected = {"word": None, **expected}
    return {"rows": rows, "expected": expected, "pictures": pictures}


def outcome(rows: Mapping[str, Mapping[str, float]]) -> str:
    """What came of the forecast, from released and public numbers alone: one sentence."""
    own, noise = (rows[name]["from_anchor"] for name in ("released", "noise-only"))
    if own <= CLEAR * noise:
        return (
            "The released token lies about as far from its anchor as noise alone would put it, so"
            " what it shows may be noise."
        )
    times = "" if noise <= own / 1000 else f"{number(own / noise, 2)} times "
    further = f"{times}as far" if times else "far more than a thousand times as far"
    return (
        f"The released token lies {further} from its anchor as the same noise on a sum of nothing"
        " does, which goes through the same steps."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
