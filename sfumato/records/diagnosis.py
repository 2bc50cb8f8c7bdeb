"""A folder diagnosed for the owner's own eyes: what it is, what it could be, what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..options import FIXED, Reading, declared
from .build import UNLABELLED
from .columns import COLUMNS, label_column, name_of
from .copies import NearCopies
from .folder import FOLDERS, LINK_OUT, READABLE
from .limits import CRASHED, TOO_LONG, TOO_MUCH
from .proposals import (
    columns_said,
    like_labels,
    like_units,
    proposed_values,
    sizes_said,
    stored_of,
    values_said,
)
from .recordset import RecordSet
from .rules import (
    DAMAGED,
    NEEDS_HEIC,
    NEEDS_MEDICAL,
    NO_DECODER,
    NO_LABELS,
    NO_RANGE,
    NOT_FINITE,
    NOT_IN_ONE,
    POINTER,
    UNKNOWN,
    UNREADABLE,
)
from .sheet import new_place
from .summary import Summary, describe
from .survey import otherwise, survey

CURES = {
    "empty file": "copy it again, or delete it",
    "missing file": "put it there, or correct its path in the table (from the table's folder; upper"
    " and lower case count)",
    LINK_OUT: "give a folder that holds both, or a copy of the files themselves",
    TOO_LONG: "save it again as PNG",
    TOO_MUCH: "save it again as PNG, with fewer pixels",
    CRASHED: "save it again as PNG",
    "too large": "save it with at most 50 million pixels and 256 MiB",
    "too small": "leave it out: a side has fewer than 8 pixels",
    "aspect ratio": "crop it: one side is more than 20 times the other",
    POINTER: "fetch the files themselves: git lfs pull",
    UNREADABLE: "damaged: replace it, or delete it",
    DAMAGED: "damaged: replace it, or delete it",
    "missing label": "fill the label column",
    UNKNOWN: "correct the label, or --classes",
    "missing unit": "fill the unit column",
    NOT_FINITE: "replace NaN and infinity",
    NOT_IN_ONE: "declare black and white with --range LO..HI",
    NO_RANGE: "declare black and white with --range LO..HI or --window; of colours keep 8 bits",
    NEEDS_MEDICAL: "install the extra, then read again",
    NEEDS_HEIC: "install the extra, then read again",
    NO_DECODER: "convert it to an uncompressed transfer syntax, or, of JPEG with 12 bits, pip"
    " install pylibjpeg-libjpeg (GPL)",
}
OF_TAGS = {  # where files say it of themselves
    "missing label": "its DICOM tag that --labels names is empty: fill it, or leave the file out;"
    " the PRIVATE list of bad files names it (--bad-files FILE)",
    "missing unit": "its DICOM tag {unit} is missing or names nobody: fill it, or leave the file"
    " out; the PRIVATE list of bad files names it (--bad-files FILE)",
}
OF_RANGE = (NOT_IN_ONE, NO_RANGE)  # what a declared range mends
BAD_SAID = "records are bad"  # of a refusal
BAD_FIRST = "mend the bad files (listed by rule and name, PRIVATE: --bad-files FILE), then "
FOREIGN = "of another format: convert it to PNG (of 16 bits where it has more than 8), or delete it"


@dataclass(frozen=True)
class Diagnosis(Summary):
    """LOCAL ONLY, as `Summary` is: exact, from every record, covered by no epsilon.

    Attributes:
        refused: Why `adapt` would refuse the folder as it is; None if it would not.
        stops: All for which `plan` and `adapt` would stop, with this and what the class list and
            the units need.
        otherwise: What else the same files could be, a line each.
        values: Sizes and stored values over the set, a line each.
        proposals: (What was seen over the set, options that would declare it).
        roles: Which columns look like labels, units or captions, a line each.
        bad_files: (Rule, file or row) of every record that breaks one.
        next: The command to run next.
        near: Near-copies; None where they were not looked for.
    """

    refused: str | None = None
    stops: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    proposals: tuple[tuple[str, str], ...] = ()
    roles: tuple[str, ...] = ()
    bad_files: tuple[tuple[str, str], ...] = ()
    next: str = ""
    near: NearCopies | None = None

    def lines(self) -> list[str]:
        """The diagnosis as short lines for a terminal."""
        out = super().lines() if self.n else [f"no image was read in {self.source!r}"]
        out += [*self.values, *self.roles]
        out += [] if self.near is None else self.near.lines()
        out += [f"could also be: {line}" for line in self.otherwise]
        for seen, flags in self.proposals:
            joint = " " if seen.endswith("?") else ": "
            cure = f"{joint}add {flags} (recorded as read off the data)" if flags else ""
            out.append(f"note: {seen}{cure}")
        if not self.n:
            out += [f"note: {warning}" for warning in self.warnings]
        return out + [f"next: {self.next}"]

    def cure(self, rule: str) -> str:
        """What to do about records that break a rule."""
        known = CURES.get(rule, "repair or remove it")
        if rule in OF_TAGS and "DICOM" in self.kinds and self.kind in FOLDERS:
            known = OF_TAGS[rule].format(unit=self.unit_column)
        if rule == "missing unit" and self.unit_column == "folder" and self.kind in FOLDERS:
            known = "put it into the folder of its person"
        if rule == UNREADABLE:
            endings = {
                Path(file).suffix.lower() for broken, file in self.bad_files if broken == rule
            }
            if endings.isdisjoint({"", *READABLE}):  # "": a row of a file, whose format is not seen
                known = FOREIGN
            elif not endings <= READABLE:
                known += f"; {FOREIGN}"
        if self.kind in ("table", "coco"):
            known = known.replace("delete it", "delete it and its row in the table")
        return f" (cure: {known})"


def diagnose(
    path: Path,
    records: RecordSet | None,
    reading: Reading,
    refusals: Sequence[str],
    base: str | None = None,
    side: int = 0,
    stops: Sequence[str] = (),
) -> Diagnosis:
    """Everything above of records that were read for looking at.

    Args:
        path: Where they lie.
        records: As read with `refusals`; None if nothing could be.
        reading: How they were asked to be read.
        refusals: Why they cannot be read as they are; `adapt` refuses them then.
        base: Name of the base that they are for, if it is known.
        side: Its pixels, for what is smaller; 0 for none.
        stops: Why `plan` and `adapt` would stop although they can be read.
    """
    seen = survey(path) if path.exists() else None
    kind = "nothing" if records is None else records.kind
    other = tuple(otherwise(path, seen, kind)) if seen else ()
    refused = refusals[0] if refusals else None
    warning = [f"`adapt` will refuse this folder as it is: {refused}"] if refused else []
    if records is None:
        empty = Summary(
            str(path), kind, 0, 0, {}, {}, (0, 0), (0, 0), {}, {}, 0, 0, None, 0, 0, (), ()
        )
        summary, found, columns = empty, {}, {}
    else:
        unlabelled = reading.unlabelled or (records.classes == (UNLABELLED,) and bool(refusals))
        summary = describe(records, reading.labels, unlabelled, reading.caption_column)
        stored = stored_of(records)
        proposals = tuple(proposed_values(stored, reading.values, _modalities(records)))
        found = {
            "values": (*sizes_said(records, side), *values_said(stored, reading.values)),
            "proposals": proposals,
            "roles": tuple(columns_said(records, _used(records, reading), reading.caption_column)),
            "bad_files": tuple(_bad_files(records)),
        }
        columns = _columns(records, reading)
    kept = {field.name: getattr(summary, field.name) for field in fields(Summary)}
    kept["warnings"] = (*warning, *refusals[1:], *summary.warnings)
    flags = next((flags for _, flags in found.get("proposals", ()) if flags), "")
    all_stops = (*refusals[:1], *stops)
    bad = any(rule not in OF_RANGE for rule, _ in found.get("bad_files", ()))
    read_so = replace(reading, **columns)
    following = _next(path, read_so, base, flags, refused, bool(stops), bad)
    return Diagnosis(
        **kept, refused=refused, stops=all_stops, otherwise=other, next=following, **found
    )


def _modalities(records: RecordSet) -> int:
    """Of DICOM files, how many kinds of instrument made them."""
    return len({cell for cell in records.facts.table.get("Modality", ()) if cell})


def _columns(records: RecordSet, reading: Reading) -> dict[str, Any]:
    """Options for columns that look like labels and units, where none is read as such."""
    columns, found = records.facts.columns, {}
    named = reading.labels or label_column(columns)
    # the one folder that a table keeps its pictures in is no class
    alone = records.kind in COLUMNS and len(records.classes) + len(records.few) == 1
    if alone and not named and reading.classes is None and not reading.unlabelled:
        found["labels"] = like_labels(columns)
    if records.unit_column is None and reading.unit is None:
        found["unit"] = next(iter(like_units(columns)), None)
    return found


def _used(records: RecordSet, reading: Reading) -> set[str | None]:
    """Columns and arrays that are read already."""
    columns = records.facts.columns
    arrays = records.kind in ("npz", "idx") and "labels" in columns
    labels = reading.labels or ("labels" if arrays else label_column(columns))
    return {None if reading.unlabelled else labels, records.unit_column, reading.caption_column}


def _bad_files(records: RecordSet) -> list[tuple[str, str]]:
    """(Rule, file or row) in the order of rules and files."""
    place = np.arange(records.n) if records.place is None else records.place
    found = [
        (rule, name_of(records, int(place[slot])))
        for slot, rule in enumerate(records.facts.rules)
        if rule is not None
    ]
    return sorted(found)


def as_flags(reading: Reading) -> str:
    """The options of a reading as they are typed, for the next command."""
    out: list[str] = []
    for one in declared(Reading):
        value: Any = getattr(reading, one.name)
        if value == one.default or (one.name == "yes_public" and value is not True):
            continue
        out += [one.flag] if value is True else [one.flag, shlex.quote(_typed(one.name, value))]
    return " ".join(out)


def _typed(name: str, value: Any) -> str:
    if name == "classes":
        return ",".join(f'"{word}"' if "," in word else word for word in value)
    if name in ("value_range", "window") and not isinstance(value, str):
        return (".." if name == "value_range" else "/").join(f"{end:.15g}" for end in value)
    return str(value)


def _next(
    path: Path,
    reading: Reading,
    base: str | None,
    flags: str,
    refused: str | None,
    stops: bool,
    bad: bool,
) -> str:
    said, named = as_flags(reading), "" if base is None else f" --base {shlex.quote(base)}"
    place = shlex.quote(str(path)) + (f" {said}" if said else "")
    first = BAD_FIRST * bad
    if bad and refused and BAD_SAID in refused:
        return f"{first}sfumato inspect {place}{named}"
    if flags and reading.values == FIXED:
        inside = path.is_dir() and Path.cwd().is_relative_to(path.resolve())
        sheet = new_place(path.resolve().parent if inside else Path())
        return f"{first}sfumato inspect {place} {flags}{named} --sheet {shlex.quote(str(sheet))}"
    if refused:
        mend = "" if NO_LABELS in refused and reading.labels else "mend the first note, then "
        return f"{mend}sfumato inspect {place}{named}"
    mend = "do what the notes say of why `plan` stops, then " if stops else ""
    choose = "" if base else " --base BASE (choose one: sfumato bases)"
    return f"{mend}sfumato plan {place} --epsilon 4{named}{choose}"
