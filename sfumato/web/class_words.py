"""Words for the classes: what the public model is told of each, by the plan and by the owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import forms, results
from .commands import CLASSES
from .forms import Wrong
from .project import Project

MOST = 100  # classes that have a row on the page


@dataclass(frozen=True)
class Row:
    """One class on the page.

    Attributes:
        name: The class.
        told: What the model is told of it, by the plan; empty without one.
        token: The new word in that, if any.
        start: The words that it starts from, if any.
        like: What stands in the field for them.
        prompt: What stands in the field for all that is told.
    """

    name: str
    told: str = ""
    token: str | None = None
    start: str | None = None
    like: str = ""
    prompt: str = ""


def names(project: Project) -> list[str]:
    """The classes whose names may be shown, and asked about one by one; else none."""
    facts = results.looked(project)
    if project.said("what") != CLASSES or facts.get("people"):
        return []
    found = list(facts.get("classes") or {})
    return found if len(found) <= MOST and not any("=" in name for name in found) else []


def answered(project: Project) -> bool:
    """Whether somebody has been there: then nothing is proposed any more."""
    return project.said("init") is not None


def rows(project: Project, found: Mapping[str, Any] | None) -> list[Row]:
    """A row for each class.

    Args:
        project: The project.
        found: What `plan` printed; None without a plan.
    """
    planned = {one["name"]: one for one in (found or {}).get("words", ())}
    likes, prompts = project.said("init") or {}, project.said("prompts") or {}
    made: list[Row] = []
    for name in names(project):
        one = planned.get(name, {})
        like = likes.get(name) if answered(project) else one.get("proposed")
        told = (one.get("prompt", ""), one.get("token"), one.get("start"))
        made.append(Row(name, *told, like or "", prompts.get(name, "")))
    return made


def read(project: Project, form: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The answers of a form: class -> words that its token starts from, class -> all that is told.

    Raises:
        Wrong: The classes are not known, or a text is not one line.
    """
    found = names(project)
    if not found:
        raise Wrong("the names of the classes are not known: look into the folder again")
    likes, prompts = (
        {name: forms.words(form, f"{kind}-{i}", called=name) for i, name in enumerate(found)}
        for kind in ("like", "prompt")
    )
    return {
        "init": {name: text for name, text in likes.items() if text},
        "prompts": prompts if any(prompts.values()) else {},
    }
