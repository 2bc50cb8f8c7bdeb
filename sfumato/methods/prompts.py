"""From names of classes to public prompts and class tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..errors import SfumatoError

if TYPE_CHECKING:
    from ..bases import Base

TOKEN = "<artwork>"  # the word that a token method teaches, unless another is named


@dataclass(frozen=True)
class Prompts:
    """Public text per class.

    Attributes:
        prompts: One per class.
        placeholders: For each class its own token, or None where its words are the base's; empty
            where no class has one.
        initializers: The public look-alike that each placeholder starts from (None: the
            vocabulary's mean).
    """

    prompts: tuple[str, ...]
    placeholders: tuple[str | None, ...] = ()
    initializers: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, words: Mapping[str, Sequence]) -> Prompts:
        """Those that a run keeps in its options."""
        return cls(*(tuple(words[f.name]) for f in fields(cls)))

    @property
    def texts(self) -> tuple[str, ...]:
        """All words that are published: prompts, and what the tokens in them start from."""
        return (*self.prompts, *(text for text in self.initializers if text))

    @property
    def tokens(self) -> dict[str, str | None]:
        """Token -> what it starts from, of the classes that have one."""
        return {word: start for word, start in zip(self.placeholders, self.initializers) if word}

    @property
    def started(self) -> tuple[str, ...]:
        """The prompts with what each token starts from in its place: words of the base's own."""
        pairs = zip(self.prompts, self.placeholders or self.prompts, self.initializers or ())
        plain = tuple(
            text.replace(word, start or "") if word else text for text, word, start in pairs
        )
        return plain or self.prompts

    def ids(self, of_tokens: Sequence[int]) -> list[int | None]:
        """For each class the id of its token, or None, given those of `tokens`."""
        found = iter(of_tokens)
        return [next(found) if word else None for word in self.placeholders]


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

    A word that the base does not know gets a trainable token in its place; words that it knows, and
    the prompts of all other classes, stay as they are.

    Args:
        base: A public base.
        classes: Public names.
        prompt: A template with {class}, or one text per class.
        init: The public look-alike that a class's token starts from; such a class gets a token in
            place of its whole name.
        embedder: True gives every class a token in place of its whole name, False none.
        placeholder: The tokens' name, numbered where there are several classes. Default: after the
            words that they stand for.

    Raises:
        SfumatoError: A class without a text, a text of no class, a text without {class} where a
            token goes, control characters, or a base that is told nothing.
    """
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
    init = init or {}
    for flag, named in (("--prompt", given), ("--init", init)):
        if strange := sorted(set(named) - set(classes)):
            raise SfumatoError(
                f"{flag} {strange[0]}=...: no class has this name; `inspect` lists them"
            )
    unknown = {c: unknown_words(base, c) for c in classes if "{class}" in given[c]}
    spans = {}  # class -> which words of its name a token stands for
    for name in classes:
        if embedder or (embedder is None and name in init):
            spans[name] = slice(0, len(name.split()))
        elif embedder is None and unknown.get(name):
            spans[name] = unknown[name]
    if any("{class}" not in given[name] for name in spans):
        raise SfumatoError(
            "trainable class tokens need {class} in every prompt: that is where they go"
        )
    words = _name_tokens(base, classes, spans, placeholder)
    texts = []
    for name in classes:
        own = name.split()
        if name in spans:
            own[spans[name]] = [words[name]]
        texts.append(given[name].replace("{class}", " ".join(own)))
    if not words:
        return Prompts(tuple(texts))
    starts = {c: init.get(c, None if unknown.get(c) else c) for c in words}
    return Prompts(tuple(texts), tuple(map(words.get, classes)), tuple(map(starts.get, classes)))


def unknown_words(base: Base, name: str) -> slice | None:
    """From the first to the last word of a class's name that the base was never taught.

    None where it knows them all.
    """
    from ..bases import TextBase

    if not isinstance(base, TextBase):
        return None  # its encoder reads any word, in pieces
    words = name.split()
    strange = set(base.unknown_words([name.lower()]))
    places = [i for i, word in enumerate(words) if word.lower() in strange]
    return slice(places[0], places[-1] + 1) if places else None


def _name_tokens(
    base: Base, classes: Sequence[str], spans: Mapping[str, slice], wanted: str | None
) -> dict[str, str]:
    """Class -> its token, for the classes that get one."""
    from ..bases import name_placeholders, name_token, text_base

    if not spans:
        return {}
    reads = text_base(base)
    if wanted:
        return dict(zip(spans, name_placeholders(reads, wanted, len(spans), TOKEN)))
    found: dict[str, str] = {}
    for place, name in enumerate(classes):
        if name in spans:
            own = " ".join(name.split()[spans[name]])
            found[name] = name_token(reads, (own, name), place, set(found.values()))
    return found


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
