"""What a report may show beside a released token.

Figures and images of tokens that need no private image, and nothing else.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases.contents import check_png

ROWS = {
    "released": "the released token",
    "anchor": "the public anchor alone",
    "noise-only": "the same noise on a sum of nothing",
}
MOST_PICTURES = 10


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
        shape = shape and all(len(row) == 2 for row in rows.values()) and len(expected) == 4
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
    return {"rows": rows, "expected": expected, "pictures": pictures}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
