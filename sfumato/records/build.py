"""From the columns of any layout to a RecordSet: its part of a split, its classes, its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, SfumatoError
from .assemble import apart_from_few, class_list, facts_of, judge, number_labels
from .recordset import RecordSet
from .rules import refuse
from .split import Part, part_of

UNLABELLED = "image"  # the one class of images without labels


def part_for(options: dict[str, Any], units, images: Callable[[], Sequence[bytes]]) -> Part | None:
    """The slots that the split leaves; None without one."""
    if options["split"] is None:
        return None
    return part_of(options["split"], options["part"], options["unit"], units, images)


def labels_of(
    labels, n: int, options: dict[str, Any], rules: list[str | None]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 [n] indices into the class list, and that list: declared, stored, or found.

    `labels`: a name or None for each of n slots. The rules that slots break go into `rules`.
    """
    if options["unlabelled"]:
        classes = (
            (UNLABELLED,) if options["classes"] is None else class_list((), options["classes"])
        )
        if len(classes) != 1:
            raise SfumatoError(
                "--unlabelled takes at most one class: leave --classes out, or name one"
            )
        return np.zeros(n, np.int64), classes
    if n == 0:
        judge([], 1, (UNLABELLED,))
    # Names that come with a file are found like those of folders: whoever made the file had the
    # data before them.
    try:
        classes = class_list(
            labels, options.get("names") if options["classes"] is None else options["classes"]
        )
    except DataError as error:
        refuse(str(error), options["refusals"])
        return np.zeros(n, np.int64), (UNLABELLED,)
    return number_labels(labels, classes, rules), classes


def named(numbers: Sequence[str | None], names: Sequence[Any]) -> list[str | None]:
    """Labels that are stored as numbers, by the names stored beside them.

    `datasets` writes -1 for a label that is not known. A number beyond the names stays, and meets
    the rule of the class list.
    """
    known = {str(i): str(name) for i, name in enumerate(names)}
    return [None if number in (None, "-1") else known.get(number, number) for number in numbers]


def record_set(
    root, kind, options, numbers, classes, unit, captions, rules, known, part, **source
) -> RecordSet:
    """The records, judged; DataError if too few of them can be used.

    Args:
        root: Where they lie.
        kind: Layout: as `--layout` names it.
        options: As `load_records` collects them.
        numbers: int64 [n] indices into `classes`.
        classes: The class list.
        unit: `assemble.Units` of the slots.
        captions: A text or None for each slot; None without captions.
        rules: The rule that each slot breaks, or None.
        known: More fields of `Facts`.
        part: Of a split; None without one.
        source: `read` or `array`, and `place`, of the RecordSet.
    """
    usable, bad = judge(rules, options["max_bad"], classes, options["refusals"])
    known["rules"] = tuple(rules)
    found, few = options["classes"] is None and not options["unlabelled"], {}
    confirmed = found and _confirmed(options["yes_public"], classes)
    if found and not confirmed:
        numbers, classes, few = apart_from_few(numbers, classes, unit.number, usable)
    known |= {"units": unit.prints, "respelt": unit.respelt, "doubtful": unit.doubtful}
    return RecordSet(
        source=str(root),
        kind=kind,
        classes=classes,
        labels=numbers,
        unit=unit.number,
        unit_column=None if unit.prints is None else options["unit"],
        classes_found=found,
        confirmed=confirmed,
        few=few,
        usable=usable,
        captions=None if captions is None else tuple(caption or "" for caption in captions),
        facts=facts_of(bad, codes=None if part is None else part.codes, **known),
        values=options["values"],
        held_out=None if options["split"] is None else options["split"].share,
        **source,
    )


def require_read_as_today(records: RecordSet) -> None:
    """Refuses records that were read by `--frames plain` where something is to be charged.

    Its units are those of earlier versions, in which one picture could be several.

    Raises:
        SfumatoError: They were.
    """
    if records.facts.before:
        raise SfumatoError(
            "--frames plain reads as earlier versions did, for which one picture in several rows"
            " was several units: it goes on with a run of theirs, and with nothing new; leave it"
            " out"
        )


def _confirmed(said: bool | Sequence[str], classes: tuple[str, ...]) -> bool:
    """Whether the owner has declared the found list.

    SfumatoError if the names given are not the ones found, word for word.
    """
    if isinstance(said, bool):
        return said
    if sorted(said) != sorted(classes):
        raise SfumatoError(
            "the classes in yes_public are not those found, word for word: look at what `sfumato"
            " plan` finds now, or declare your own list with --classes"
        )
    return True
