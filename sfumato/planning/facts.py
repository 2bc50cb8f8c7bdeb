"""Everything that a plan may know of the private records, as a type."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError
from ..options import FIXED, Values
from ..records import FEW, RecordSet
from .names import what_would_leak

LINK = "; "


@dataclass(frozen=True, slots=True)
class PublicFacts:
    """What the owner declares public by planning a run.

    Nothing else of the records gets into a plan: `prepare` takes this in place of the records, so
    that neither plan nor options nor estimates can follow from a pixel, a label, a caption, or a
    slot that cannot be used.

    Attributes:
        n_units: Units of privacy, usable or not; slots if the unit is one record. Public under
            zero-out.
        classes: The class list.
        unit_column: Name of the column that names the units; None if the unit is one record.
        classes_found: Whether the class list was read off the data.
        few: How many classes were found that have fewer than `FEW` units and are not in
            `classes`. Any refuses the plan, so no plan follows from it.
        doubtful: How many values of the unit column may be another spelling of another's. Any
            refuses the plan unless the owner allows it, and the plan then records it.
        confirmed: Whether the owner has declared a list that was read off the data public, as it
            was found.
        values: How stored values become grey levels, as the owner declared.
        held_out: The share of the units that a split was asked to set apart; `n_units` counts the
            others.
        captioned: Whether captions are read, as their column was named; not what they say, nor
            who has one.
    """

    n_units: int
    classes: tuple[str, ...]
    unit_column: str | None = None
    classes_found: bool = False
    few: int = 0
    doubtful: int = 0
    confirmed: bool = False
    values: Values = FIXED
    held_out: float | None = None
    captioned: bool = False

    @classmethod
    def of(cls, records: RecordSet) -> PublicFacts:
        """The public facts of private records: the one place where they are read off."""
        return cls(
            n_units=records.n_units,
            classes=records.classes,
            unit_column=records.unit_column,
            classes_found=records.classes_found,
            few=len(records.few),
            doubtful=records.facts.doubtful if records.unit_column else 0,
            confirmed=records.confirmed,
            values=records.values,
            held_out=records.held_out,
            captioned=records.captions is not None,
        )


def require_list(facts: PublicFacts) -> None:
    """The class list is declared, or common enough and made of ordinary words.

    Raises:
        DataError: A class was dropped by a count, which would move with one unit; or the names look
            like people, dates, numbers or files, or like one for each unit.
    """
    names = facts.classes if facts.classes_found and not facts.confirmed else ()
    leaks = what_would_leak(names, facts.n_units)
    if leaks:
        raise DataError(
            "the class names come from the data, and a release would publish them:"
            f" {LINK.join(leaks)}. Where each folder is one person, take --unlabelled --unit"
            " folder; else declare the public classes with --classes a,b,c, or the names as they"
            " are with --yes-public"
        )
    if facts.few:
        many = facts.few + len(facts.classes)
        cure = ""
        if many > 2 and 2 * many > facts.n_units:
            cure = (
                " (nearly one class for each unit: if each folder is one person, take --unlabelled"
                " --unit folder)"
            )
        raise DataError(
            f"{facts.few} of the {many} classes found in the data have"
            f" fewer than {FEW} units, and publishing their names would reveal these units: declare"
            " a public class list (--classes a,b,c), or declare the list that `sfumato inspect`"
            " shows public (--yes-public)" + cure
        )


def require_clear_units(facts: PublicFacts, allowed: bool) -> int:
    """How many values of the unit column may be another spelling of another's.

    Raises:
        DataError: There are some and they are not `allowed`.
    """
    if facts.doubtful and not allowed:
        raise DataError(
            f"{facts.doubtful} values of {facts.unit_column!r} may be spellings of one another"
            " (accents, punctuation, spaces, leading zeros, look-alike letters), and a person with"
            " two values is not protected as one unit: give each person one value, or confirm that"
            " all are different with --allow-doubtful-units (recorded)"
        )
    return facts.doubtful
