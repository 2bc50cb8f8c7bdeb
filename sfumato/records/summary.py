"""What is in a record set, for the owner's own eyes: exact counts that no epsilon covers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .assemble import FEW
from .frames import warnings_of
from .layout import layout_of
from .recordset import RecordSet

MOST_FEW = 50  # classes of few units that are shown by name


@dataclass(frozen=True)
class Summary:
    """LOCAL ONLY: every figure is exact and not covered by any epsilon.

    Sizes are (width, height) in pixels.
    """

    source: str
    kind: str
    n: int
    usable: int
    class_counts: dict[str, int]
    few: dict[str, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    bad: dict[str, int]
    ignored: dict[str, int]
    exact_duplicates: int
    exif: int
    unit_column: str | None
    n_units: int
    max_per_unit: int
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    layout: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)

    def cure(self, rule: str) -> str:
        """What to do about records that break a rule, if it is known."""
        return ""

    def lines(self) -> list[str]:
        """The summary as short lines for a terminal."""
        unit = (
            f"{self.n_units:,} units by {self.unit_column!r}, at most {self.max_per_unit} records"
            " each"
        )
        classes = f"{len(self.class_counts)} class{'es' * (len(self.class_counts) != 1)}"
        out = [
            f"{self.n:,} records, {self.usable:,} usable, {classes}",
            *self.layout,
            (
                unit
                if self.unit_column
                else "privacy unit: one record (to protect a patient or person, use --unit COLUMN)"
            ),
            (
                f"sizes {self.smallest[0]}x{self.smallest[1]} to"
                f" {self.largest[0]}x{self.largest[1]} px; EXIF in {self.exif:,} files"
                " (will be stripped)"
            ),
            f"{self.exact_duplicates:,} exact duplicates",
        ]
        out += [f"class {name!r}: {count:,}" for name, count in self.class_counts.items()]
        few = [
            f"class {name!r} is set apart: only {count:,} unit{'s' * (count != 1)}"
            for name, count in self.few.items()
        ]
        out += few[:MOST_FEW] + [f"and {len(few) - MOST_FEW:,} more that are set apart"] * (
            len(few) > MOST_FEW
        )
        out += [f"unusable, {rule}: {count:,}{self.cure(rule)}" for rule, count in self.bad.items()]
        out += [f"left out, {reason}: {count:,}" for reason, count in self.ignored.items()]
        if self.columns:
            out.append("columns: " + ", ".join(repr(name) for name in self.columns))
        return out + [f"note: {warning}" for warning in self.warnings]


def describe(
    records: RecordSet,
    labels: str | None = None,
    unlabelled: bool = False,
    captions: str | None = None,
) -> Summary:
    """Counts what is in `records`.

    LOCAL ONLY: for `sfumato inspect` on the owner's terminal, never for a release. `labels`,
    `unlabelled`, `captions`: as in `load_records`, the last its `caption_column`.
    """
    facts, usable = records.facts, records.usable
    counts = np.bincount(
        records.labels[usable & (records.labels >= 0)], minlength=len(records.classes)
    )
    slots = np.flatnonzero(usable)
    if records.array is not None:
        prints = [records.fingerprints[slot] for slot in slots]
        sizes = np.array([records.array.shape[2:0:-1]])
    else:
        assert facts.prints is not None
        assert facts.sizes is not None
        prints, sizes = [facts.prints[slot] for slot in slots.tolist()], facts.sizes[slots]
    exact = len(slots) - len(set(prints))
    by_area = np.argsort(sizes.prod(1), kind="stable")
    ends = [(int(w), int(h)) for w, h in sizes[by_area[[0, -1]]]] if len(sizes) else [(0, 0)] * 2
    return Summary(
        source=records.source,
        kind=records.kind,
        n=records.n,
        usable=len(slots),
        class_counts={
            name: int(count) for name, count in zip(records.classes, counts, strict=True)
        },
        few=dict(records.few),
        smallest=ends[0],
        largest=ends[1],
        bad=dict(facts.bad),
        ignored=dict(facts.ignored),
        exact_duplicates=exact,
        exif=0 if facts.exif is None else int(facts.exif.sum()),
        unit_column=records.unit_column,
        n_units=records.n_units,
        max_per_unit=records.max_per_unit,
        columns=facts.columns,
        kinds=dict(facts.kinds),
        warnings=tuple(_warnings(records, counts, exact, len(slots))),
        layout=(
            *layout_of(records, labels, unlabelled, captions),
            *["only the part that the split leaves for training"] * (records.held_out is not None),
        ),
    )


def sizes_of(records: RecordSet) -> str:
    """Smallest and largest size of the usable images, such as "64x64 to 512x640". LOCAL ONLY."""
    if records.array is not None:
        return f"{records.array.shape[2]}x{records.array.shape[1]}"
    if records.facts.sizes is None or not records.usable.any():
        return "unknown"
    sizes = records.facts.sizes[records.usable]
    by_area = np.argsort(sizes.prod(1), kind="stable")
    ends = dict.fromkeys(f"{w}x{h}" for w, h in sizes[by_area[[0, -1]]].tolist())
    return " to ".join(ends)


def spelling(records: RecordSet) -> list[str]:
    """What the owner should know of the values in the unit column; counts, no value. Local."""
    facts, out = records.facts, []
    if facts.respelt:
        out.append(
            f"{facts.respelt:,} values of {records.unit_column!r} differ from another only in case,"
            " width, spaces or invisible characters and count as the same unit"
        )
    if facts.doubtful:
        out.append(
            f"{facts.doubtful:,} values of {records.unit_column!r} may be spellings of one another"
            " (accents, punctuation, leading zeros, letters of another script) but count as"
            " different units: give each person one value, or confirm that all are different"
            " (--allow-doubtful-units)"
        )
    return out


def people_apart(records: RecordSet) -> list[str]:
    """That patients of DICOM are cut apart by the unit; a count, no value. Local."""
    count = records.facts.people_apart
    if not count:
        return []
    unit = records.unit_column
    promised = {None: "one picture", "folder": "a folder", "file": "a file"}.get(
        unit, f"one value of {unit!r}"
    )
    who = "1 patient by PatientID lies" if count == 1 else f"{count:,} patients by PatientID lie"
    return [
        f"{who} in several units: the promise covers {promised}, not a patient (--unit PatientID"
        " protects all pictures of a patient together)"
    ]


def _warnings(records: RecordSet, counts: np.ndarray, exact: int, usable: int):
    if records.few:
        yield (
            f"classes of fewer than {FEW} units are set apart, because a published class name would"
            " reveal that such a unit exists: declare the public class list with --classes, or"
            " declare the one found public with --yes-public"
        )
    yield from warnings_of(records.facts.marked)
    yield from people_apart(records)
    yield from spelling(records)
    for name, count in zip(records.classes, counts, strict=True):
        if count <= 1:
            held = "one record" if count else "no usable record"
            yield (
                f"class {name!r} has {held}: synthetic images of it will show only what the public"
                " base knows, and its name is published"
            )
    if exact and exact == usable - 1:
        yield "all records are identical"
    elif exact or records.max_per_unit > 1:
        yield (
            "the same image is in several records, and the guarantee is per unit: give all copies"
            " the same unit"
            if exact
            else "units own several records: sampling and clipping are per unit"
        )
