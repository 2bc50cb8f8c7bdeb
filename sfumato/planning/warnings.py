"""Remarks on a plan: what will be published, and what is unlikely to work.

Before anything is spent.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ..bases import PROPOSED, scratch_name
from ..methods import Prepared, Prompts, reach
from ..methods.prompts import unknown_words
from ..records import RecordSet, people_apart, repeats_said, spelling
from . import rates
from .told import not_known, told

MOST_FILES = 3  # that a remark names
MOST_NAMES = 40  # classes that a remark names
CAPTIONS_TRAIN = (
    "captions train in place of the prompts of classes, which are read where an image has none; the"
    " unit is the image with its caption"
)
CAPTIONS_COMPARED = (
    "the captions train nothing: they are only compared with the prompts, so that none of them is"
    " published"
)
START = "; --init CLASS=WORDS starts it from words that the base knows"


def remarks_on(prepared: Prepared[Any], records: RecordSet) -> tuple[str, ...]:
    """One line each, for the person who plans; local, since some follow from the records."""
    plan, remarks = prepared.plan, [_on_ancestor(ancestor) for ancestor in prepared.ancestors]
    remarks += _on_unread(prepared.base.info.unread)
    if records.classes_found:
        names = ", ".join(plan.classes[:MOST_NAMES]) + (
            ", ..." if len(plan.classes) > MOST_NAMES else ""
        )
        cure = (
            "you have said that it is public"
            if records.confirmed
            else "declare it with --classes, or say that it is public with --yes-public"
        )
        remarks.append(
            f"the class list was read from the data and will be published ({names}): {cure}"
        )
    repeated = repeats_said(plan.classes) if records.kind == "folder" else None
    remarks += [] if repeated is None else [repeated]
    if records.captions is not None:
        remarks.append(CAPTIONS_TRAIN if plan.captions else CAPTIONS_COMPARED)
    if scratch_name(plan.base):
        side = prepared.base.resolution
        remarks.append(
            f"no public model: {plan.trainable:,} random numbers learn pictures of {side}x{side};"
            f" sizes are named, such as {', '.join(PROPOSED)}"
        )
    else:
        remarks += [*_on_words(prepared), *_on_starts(prepared), *_on_plurals(prepared)]
    if records.unit_column:  # always one, where files are DICOM
        remarks += [*people_apart(records), *spelling(records)]
    remarks += reach.remarks(prepared.options, len(getattr(prepared.adaptation, "trainable", ())))
    remarks += [*prepared.method.remarks(prepared), *rates.remarks(plan)]
    if plan.delta >= 1 / plan.n_units:
        remarks.append("delta is not below 1/n: such a run could publish one unit outright")
    if plan.unit == "record":
        remarks.append(
            "the unit is one record (one image with its label and caption): if several show the"
            " same person, name the column that identifies the person with --unit"
        )
    return tuple(remarks)


def _on_unread(names: tuple[str, ...]) -> list[str]:
    """Weights in other formats in the base's folder, which nothing opens."""
    if not names:
        return []
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return [
        "the base's weights are read from safetensors alone; not opened:"
        f" {', '.join(names[:MOST_FILES])}{more}"
    ]


def _on_words(prepared: Prepared) -> list[str]:
    """Which words are taught as tokens because the base was never taught them."""
    prompts, base = Prompts.of(prepared.options["prompts"]), prepared.base
    if prepared.method.learns_tokens or not prompts.tokens:
        return []
    teaches = "trained for" if prepared.method.learns_weights else "put in place of"
    found = {}  # token -> the words that it stands for
    for name, token in zip(prepared.plan.classes, prompts.placeholders):
        span = unknown_words(base, name) if token else None
        if span is not None:
            found[token] = " ".join(name.split()[span])
    tokens, start = list(found), "" if any(prompts.initializers) else _starting(prepared)
    if not tokens:
        return []
    more = f" and {len(tokens) - MOST_NAMES} more" if len(tokens) > MOST_NAMES else ""
    words = ", ".join(f"'{found[token]}'" for token in tokens[:MOST_NAMES]) + more
    if len(tokens) == 1:
        return [f"the base does not know {words}: a token {tokens[0]} is {teaches} it{start}"]
    names = ", ".join(tokens[:MOST_NAMES]) + more
    return [f"the base does not know {words}: tokens {names} are {teaches} them{start}"]


def _starting(prepared: Prepared) -> str:
    """The option that gives tokens a start, with an example if a name suggests one."""
    one = next((one for one in told(prepared) if one.proposed), None)
    return START if one is None else f"{START}, such as {shlex.quote(f'{one.name}={one.proposed}')}"


def _on_starts(prepared: Prepared) -> list[str]:
    """Words that a token was told to start from and that say little to the base."""
    return [
        f"the base does not know all words of '{one.start}', from which the token {one.token}"
        " starts: it takes them in pieces"
        for one in not_known(prepared)
    ]


def _on_plurals(prepared: Prepared) -> list[str]:
    """A template with an article beside names that may be plurals, as folders are often called."""
    plan = prepared.plan
    said = [
        prompt
        for name, prompt in zip(plan.classes, plan.prompts, strict=True)
        if (word := name.split()[0].lower()).endswith("s")
        and not word.endswith(("ss", "us", "is"))
        and re.search(rf"\b(a|an|one|this)\s+{re.escape(word)}\b", prompt.lower())
    ]
    if not said:
        return []
    more = f" and {len(said) - 1} more" if len(said) > 1 else ""
    return [
        f"the prompt '{said[0]}'{more} has an article beside what may be a plural: name each"
        " class's text with --prompt CLASS=TEXT if it is one"
    ]


def _on_ancestor(run: Mapping) -> str:
    what = "the base was adapted" if run["through"] == "base" else "the public images were drawn"
    why = "the two may share an image or unit, so its cost is added"
    if not run["charges"]:
        why = "its cost is in the total if the two share an image"
    return (
        f"{what} by run {run['run']} of {run['owner']} (epsilon {run['epsilon']:.3g}, unit"
        f" {run['unit']!r}): {why}"
    )
