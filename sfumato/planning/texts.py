"""What a base is told while it learns, and later: captions or class prompts, and public prompts."""

from __future__ import annotations

from collections.abc import Sequence

from ..bases import Base, caption_base
from ..errors import SfumatoError
from ..options import Prompting
from ..synthesis.prompts import read_prompts
from ..training.dummy import made_up_texts
from .facts import PublicFacts
from .task import Task

CLASSES_CURE = "--condition classes trains with the prompts of classes (captions are only compared)"


def trains_captions(facts: PublicFacts, task: Task) -> bool:
    """Whether captions train, by what was asked alone: they do where their column is named.

    Raises:
        SfumatoError: They are asked for and not read, or do not go with the method or with tokens.
    """
    asked = task.prompting
    if asked.condition == "captions" and not facts.captioned:
        raise SfumatoError("--condition captions: none are read: name their column with --captions")
    if asked.condition == "classes" or not facts.captioned:
        return False
    if not task.method.trains_captions:
        raise SfumatoError(
            f"--captions: --method {task.method.name} learns the tokens of classes, which no"
            f" caption holds: {CLASSES_CURE}"
        )
    if asked.embedder or asked.init:
        raise SfumatoError(
            "--captions: a token of a class stands in its prompt, and captions are read in its"
            f" place: leave --embedder and --init out, or {CLASSES_CURE}"
        )
    return True


def require_captions(base: Base) -> None:
    """Tries the base's rule for captions on made-up ones.

    Raises:
        ModelError: It has none.
    """
    made_up_texts(caption_base(base), 1)


def prompts_hash(
    asked: Prompting, base: Base, facts: PublicFacts, prompts: Sequence[str]
) -> str | None:
    """SHA-256 of the file of public prompts, which is read and checked; None without one.

    Raises:
        SfumatoError: As `read_prompts` and `PublicPrompts.on`.
    """
    if asked.prompts_file is None:
        return None
    told = read_prompts(asked.prompts_file, facts.classes)
    told.on(base, facts.classes, prompts)
    return told.sha256
