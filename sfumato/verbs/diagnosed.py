"""A diagnosis as facts for a page or a script: counts and rules, and no name of a file."""

from __future__ import annotations

from typing import Any

from ..options import Reading
from ..planning.names import what_would_leak
from ..records import Diagnosis
from .questions import CLASSES, Question, lacks_labels, of_labels, of_unit, of_what


def as_facts(found: Diagnosis, reading: Reading) -> dict[str, Any]:
    """What `inspect` found, and the questions that `start` would ask about it.

    Args:
        found: The diagnosis.
        reading: How the folder was read for it.

    Returns:
        A JSON object. PRIVATE, as the diagnosis is. It holds names of classes and columns, and
        of no file; class names that look like people are counted and left out, and so are all
        sentences that may quote them.
    """
    people = bool(what_would_leak((*found.class_counts, *found.few), found.n_units))
    classes = {} if people else dict(found.class_counts)
    near = found.near
    return {
        "kind": found.kind,
        "n": found.n,
        "usable": found.usable,
        "n_units": found.n_units,
        "unit": found.unit_column,
        "max_per_unit": found.max_per_unit,
        "classes": classes,
        "n_classes": len(found.class_counts),
        "few": {} if people else dict(found.few),
        "people": people,
        "kinds": dict(found.kinds),
        "smallest": list(found.smallest),
        "largest": list(found.largest),
        "bad": {rule: [count, found.cure(rule)] for rule, count in found.bad.items()},
        "left_out": dict(found.ignored),
        "duplicates": found.exact_duplicates,
        "near": None if near is None else near.lines(),
        "exif": found.exif,
        "values": list(found.values),
        "proposals": [list(one) for one in found.proposals],
        "columns": list(found.columns),
        "refused": _unless(people, found.refused),
        "stops": [said for one in found.stops if (said := _unless(people, one))],
        "warnings": [] if people else list(found.warnings),
        "questions": _questions(found, reading) if found.n else {},
    }


def _unless(people: bool, text: str | None) -> str | None:
    if text is None or not people:
        return text
    return (
        "the names of the classes look like people, dates or numbers of cases, and a release would"
        " publish them: choose one style without classes, with a folder as the unit, or rename the"
        " folders"
    )


def _questions(found: Diagnosis, reading: Reading) -> dict[str, Any]:
    asked = {"what": of_what(found), "unit": of_unit(found, reading)}
    if lacks_labels(found, reading):
        asked["labels"] = of_labels(found)
    return {name: _as_choices(one) for name, one in asked.items()}


def _as_choices(question: Question) -> dict[str, Any]:
    """Answers with what they mean; classes that the folder does not have are none."""
    pairs = [line.partition(": ")[::2] for line in question.lines]
    choices = [[name, text] for name, text in pairs if _answers(question, name)]
    return {"text": question.text, "choices": choices, "default": question.default}


def _answers(question: Question, name: str) -> bool:
    from ..errors import SfumatoError

    try:
        question.accept(name)
    except SfumatoError:
        return name != CLASSES
    return True
