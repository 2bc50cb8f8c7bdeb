"""Captions of private images on their way into a base: cut and padded by a fixed rule.

After the charge nothing may fail, and the shape of a row may not depend on another row's text: so
every text has token ids, and all have equally many.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from .interface import Base

MOST_SIGNS = 4000  # of a caption; what follows no text encoder reads


def plain(caption: str) -> str:
    """A caption as one line of plain text, of `MOST_SIGNS` signs at most: a rule for any string."""
    kept = (" " if unicodedata.category(sign)[0] == "C" else sign for sign in caption[:MOST_SIGNS])
    return " ".join("".join(kept).split())


def cut_tokens(tokenizer: Any, captions: Sequence[str], longest: int) -> np.ndarray:
    """Token ids int32 [n, longest] of plain texts: the first that fit, then padding."""
    if not len(captions):
        return np.zeros((0, longest), np.int32)
    ids = tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=longest
    ).input_ids
    return np.asarray(ids, np.int32)


def caption_base(base: Base) -> Base:
    """The base, if it learns from captions.

    Raises:
        ModelError: It does not: it reads no text, or its family has no rule for captions.
    """
    if type(base).caption_tokens is not Base.caption_tokens:
        return base
    why = "has no rule for captions yet" if base.info.condition == "text" else "reads no texts"
    raise ModelError(
        f"--captions: a {base.family} base {why}: take another base, or --condition classes, which"
        " trains with the prompts of classes"
    )
