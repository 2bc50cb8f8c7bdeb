"""What a report may show beside a released token, or beside synthetic pictures.

Figures and images that need no private image, and nothing else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.pages.forecast import SOMETHING, WORDS
from sfumato.releases.contents import Contents, Example
from sfumato.releases.figures import number
from sfumato.releases.formats import check_png

ROWS = {
    "released": "the released token",
    "anchor": "the public anchor alone",
    "noise-only": "the same noise on a sum of nothing",
}
MOST_PICTURES = 10
BASE_PICTURES = "the pictures of the public base in the draft are not ones that a release may hold"
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


def check_base_pictures(found: Any) -> dict[int, bytes]:
    """PNG bytes by seed of the pictures that the public base drew, from a draft.

    SfumatoError for anything that may not be in a release.
    """
    rule = SfumatoError(f"{BASE_PICTURES}: synthesize again")
    try:
        pictures = {
            int(seed): base64.b64decode(text, validate=True) for seed, text in (found or {}).items()
        }
    except (AttributeError, TypeError, ValueError):
        raise rule from None
    if len(pictures) > MOST_PICTURES:
        raise rule
    for data in pictures.values():
        check_png(data, "a picture of the public base")
    return pictures


def beside_base(contents: Contents, pictures: Mapping[int, bytes]) -> dict[str, list[Example]]:
    """`Contents.samples`: synthetic pictures, and the base's own of the same prompts and seeds.

    SfumatoError for a picture of the base whose seed no shown picture of the release has.
    """
    shown = {one.seed: one for examples in contents.examples.values() for one in examples}
    if not set(pictures) <= set(shown):
        raise SfumatoError(f"{BASE_PICTURES}: synthesize again")
    base = [Example(data, "", shown[seed].prompt, seed) for seed, data in pictures.items()]
    return {"adapted": [shown[seed] for seed in pictures], "base": base} if base else {}


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
