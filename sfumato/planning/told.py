"""What a base will be told of each class, and words that a class's name alone suggests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..bases import TextBase
from ..methods import Prepared, Prompts
from ..methods.prompts import unknown_words

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# digit-3, digit_3, TabbyCat, MRI: a number, or letters up to the next capital
PART = re.compile(r"\d+|[A-Z]+(?![a-z])|[^\W\d_][^\W\d_A-Z]*")


@dataclass(frozen=True)
class Told:
    """One class, in public words.

    Attributes:
        name: The class.
        prompt: What the base is told.
        token: The new word in it that is learned; None where all words are the base's own.
        start: The words that the token starts from; None: the middle of the vocabulary.
        proposed: For such a token, words of the class's name that the base knows; None without any.
    """

    name: str
    prompt: str
    token: str | None = None
    start: str | None = None
    proposed: str | None = None


def told(prepared: Prepared[Any]) -> tuple[Told, ...]:
    """Each class of a plan, in the plan's order."""
    classes, base = prepared.plan.classes, prepared.base
    words = Prompts.of(prepared.options["prompts"])
    tokens = words.placeholders or (None,) * len(classes)
    starts = words.initializers or (None,) * len(classes)
    found: list[Told] = []
    for name, prompt, token, start in zip(classes, words.prompts, tokens, starts, strict=True):
        proposed = None
        if token is not None and start is None and isinstance(base, TextBase):
            proposed = _proposed(base, name, classes)
        found.append(Told(name, prompt, token, start, proposed))
    return tuple(found)


def not_known(prepared: Prepared[Any]) -> list[Told]:
    """Those whose token starts from words of which the base does not know all."""
    base = prepared.base
    return [one for one in told(prepared) if one.start and unknown_words(base, one.start)]


def _proposed(base: TextBase, name: str, classes: Sequence[str]) -> str | None:
    """Words in a name that the base knows, without those that all names share."""
    everywhere = set.intersection(*(set(_parts(one)) for one in classes))
    own = _parts(name)
    own = [word for word in own if word not in everywhere] or own
    known = [found for word in own if (found := _known(base, word))]
    together = " ".join(known)
    if not known or not base.unknown_words([together]):
        return together or None
    return known[-1]  # of a base that knows names of classes alone


def _parts(name: str) -> list[str]:
    """The words of a name in small letters, digits as words."""
    found = PART.findall(name)
    return [DIGITS[int(w)] if w.isdecimal() and int(w) < 10 else w.lower() for w in found]


def _known(base: TextBase, word: str) -> str | None:
    """The word, or what it is the plural of, where the base was taught it."""
    for form in (word, word.removesuffix("s")):
        if not base.unknown_words([form]):
            return form
    return None
