"""From names of classes to public prompts and class tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import SfumatoError

if TYPE_CHECKING:
    from ..bases import Base

TOKEN = "<artwork>"  # the word that a token method teaches, unless another is named


@dataclass(frozen=True)
class Prompts:
    """Public text per class.

    `prompts`: one per class. `placeholders`: a token of one's own per class, or empty;
    `initializers`: the public look-alike that each placeholder starts from (None: the vocabulary's
    mean).
    """

    prompts: tuple[str, ...]
    placeholders: tuple[str, ...] = ()
    initializers: tuple[str | None, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All words that are published: prompts, and what the tokens in them start from."""
        return (*self.prompts, *(text for text in self.initializers if text))


def choose_prompts(
    base: Base,
    classes: Sequence[str],
    *,
    prompt: str | Mapping[str, str] | None = None,
    init: Mapping[str, str] | None = None,
    embedder: bool | None = None,
    placeholder: str | None = None,
) -> Prompts:
    """Public prompts, one per class.

    Args:
        base: The base.
        classes: Their public names.
        prompt: A template with {class}, or one text per class.
        init: The public look-alike that a class token starts from (default: the class's own words
            if
            known, else the vocabulary's mean).
        embedder: Whether every class gets a trainable token of its own in place of {class}; by
            default
            only if the base does not know the class's words.
        placeholder: The token's name, numbered if there are several classes.
    """
    from ..bases import name_placeholders, text_base

    if base.info.condition == "none":
        return _unprompted(classes, prompt, init, embedder)

    given = (
        dict(prompt) if isinstance(prompt, Mapping) else {c: prompt or "{class}" for c in classes}
    )
    for name in classes:
        if name not in given:
            raise SfumatoError(
                f"--prompt has no text for the class {name}: give one per class or a template with"
                " {class}"
            )
    for text in given.values():
        if any(unicodedata.category(sign) == "Cc" for sign in text):
            raise SfumatoError(
                "--prompt holds control characters: a prompt is one line of plain text"
            )
    asked = [c for c in classes if "{class}" in given[c]]
    strange = [c for c in asked if text_base(base).unknown_words([c.lower()])]
    if embedder is None:
        embedder = bool(strange or init)
    if not embedder:
        return Prompts(tuple(given[c].replace("{class}", " ".join(c.split())) for c in classes))
    if any("{class}" not in given[c] for c in classes):
        raise SfumatoError(
            "trainable class tokens need {class} in every prompt: that is where they go"
        )
    placeholders = name_placeholders(text_base(base), placeholder, len(classes), TOKEN)
    texts = tuple(given[c].replace("{class}", word) for c, word in zip(classes, placeholders))
    start = tuple((init or {}).get(c, None if c in strange else c) for c in classes)
    return Prompts(texts, placeholders, start)


def _unprompted(classes: Sequence[str], prompt, init, embedder: bool | None) -> Prompts:
    """Prompts of an unconditional base: the one class's name, which has no effect on images."""
    if len(classes) > 1:
        raise SfumatoError(
            f"this base draws without being told what, and there are {len(classes)} classes: give"
            " images of one class, or a base that reads prompts"
        )
    if prompt is not None or init or embedder:
        raise SfumatoError(
            "this base is told nothing: leave --prompt, --init and class tokens out, or take a"
            " base that reads prompts"
        )
    return Prompts(tuple(classes))
