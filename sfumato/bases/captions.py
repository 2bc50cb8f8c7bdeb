"""Captions of private images on their way into a base: made plain by a fixed rule.

After the charge nothing may fail, and the shape of a row may not depend on another row's text: so
every text is read, cut and padded to one length.
"""

from __future__ import annotations

import unicodedata

from ..errors import ModelError
from .interface import Base

MOST_SIGNS = 4000  # of a caption; what follows no text encoder reads


def plain(caption: str) -> str:
    """A caption as one line of plain text, of `MOST_SIGNS` signs at most: a rule for any string."""
    kept = (" " if unicodedata.category(sign)[0] == "C" else sign for sign in caption[:MOST_SIGNS])
    return " ".join("".join(kept).split())


def caption_base(base: Base) -> Base:
    """The base, if it learns from captions.

    Raises:
        ModelError: It does not: it reads no text, or its family has no rule for captions.
    """
    if type(base).condition_of_captions is not Base.condition_of_captions:
        return base
    why = "has no rule for captions yet" if base.info.condition == "text" else "reads no texts"
    raise ModelError(
        f"--captions: a {base.family} base {why}: take another base, or --condition classes, which"
        " trains with the prompts of classes"
    )
