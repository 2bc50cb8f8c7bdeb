"""Near-copies of private pictures, and what each kind does to the promise. PRIVATE, and exact."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

from .near import ENOUGH

# of pairs; in a set of which no unit was named each record is one, and the first two are BETWEEN
IN_SET, ACROSS, PUBLIC, BASE = "within a unit", "across units", "public data", "the base's pictures"
BETWEEN = "between records"


@dataclass(frozen=True)
class Pair:
    """One pair: its kind, correlation, whether mirrored, slots, and the files or rows."""

    kind: str
    likeness: float
    mirror: bool
    slot: int
    other: int
    file: str
    other_file: str


@dataclass(frozen=True)
class Shared:
    """Private pictures, and the units that own them, that are also somewhere else."""

    pictures: int
    units: int
    strict: bool


@dataclass(frozen=True)
class NearCopies:
    """LOCAL ONLY: exact, from every picture, covered by no epsilon.

    Attributes:
        pictures: Usable pictures.
        plain: How many of them are too plain to be told from others.
        unit_column: As in `RecordSet`.
        alike: Share with an ordinary look-alike in the set.
        strict: Whether that is so many that only pictures which agree nearly pixel by pixel count.
        copies: Pictures with a near-copy, or an equal, in another record of the set.
        apart: Of these, with one in another unit; and the units that own them.
        public: Those that are also in the public data; None if there are none to compare.
        base: The same for the base's training pictures; None if the base has no list of them.
        pairs: The most alike.
    """

    pictures: int
    plain: int
    unit_column: str | None
    alike: float
    strict: bool
    copies: int
    apart: Shared
    public: Shared | None = None
    base: Shared | None = None
    pairs: tuple[Pair, ...] = field(default=(), repr=False)

    def lines(self) -> list[str]:
        """What was looked for and found, and what it does to the promise, a line each."""
        out = [f"near-copies: {self._share(self.copies)} look like another one of the set"]
        if self.strict:
            out.append(
                f"near-copies: {self.alike:.0%} of these pictures resemble another one anyway, so"
                " only those that agree nearly pixel by pixel count as copies: shrunk or cropped"
                " ones are often missed"
            )
        if self.plain:
            out.append(f"near-copies: {self.plain:,} pictures are too plain to be compared")
        out += [line for line in (self._apart(), self._public(), self._base()) if line]
        return out

    def _share(self, count: int) -> str:
        return f"{count:,} of {self.pictures:,} pictures ({count / max(1, self.pictures):.1%})"

    def _units(self, found: Shared) -> str:
        return f" of {found.units:,} units" if self.unit_column else ""

    def _warns(self, count: int) -> str:
        """Before a finding: whether it is one to act on, or one to look at first."""
        return "note: " if count >= ENOUGH * self.pictures else "few, perhaps by chance: "

    def _apart(self) -> str:
        found = self.apart
        if not found.pictures:
            return ""
        if self.unit_column is None:
            return (
                f"{self._warns(found.pictures)}{self._share(found.pictures)} stand in two records"
                " or more, and each record is a unit: the promise covers one record, and a picture"
                " in k of them is protected only as k records together are: give copies the same"
                " value of a column, and name it with --unit"
            )
        return (
            f"{self._warns(found.pictures)}{found.units:,} units by {self.unit_column!r} share a"
            f" picture with another unit ({self._share(found.pictures)}): the promise covers one"
            " unit, and who is in such a picture is in two or more: give them one value of"
            f" {self.unit_column!r}"
        )

    def _public(self) -> str:
        if self.public is None:
            return ""
        found = self.public
        if not found.pictures:
            return "near-copies: none in --public-data" + _only_if_equal(found)
        said = f"{self._share(found.pictures)}{self._units(found)} are also in --public-data"
        return (
            f"{self._warns(found.pictures)}{said}: what public pictures show is released exactly,"
            " so nothing protects these units from that: take other public pictures, or accept it"
            " with --public-may-overlap, which certificates then say" + _only_if_equal(found)
        )

    def _base(self) -> str:
        if self.base is None:
            return ""
        found = self.base
        where = "pictures that the base was trained on"
        if not found.pictures:
            return f"near-copies: none of the listed {where}" + _only_if_equal(found)
        said = f"{self._share(found.pictures)}{self._units(found)}"
        return (
            f"{self._warns(found.pictures)}{said} look like {where}: the promise begins"
            " after the base, and these were public before: take another base, or accept it with"
            " --public-may-overlap, which certificates then say" + _only_if_equal(found)
        )


def _only_if_equal(found: Shared) -> str:
    return " (only such as agree nearly pixel by pixel count)" if found.strict else ""


def as_csv(pairs: tuple[Pair, ...]) -> bytes:
    """The private list of pairs: number, kind, likeness, whether mirrored, both files or rows."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(("number", "kind", "likeness", "mirrored", "file", "other"))
    for number, pair in enumerate(pairs, 1):
        mirror = "yes" if pair.mirror else "no"
        row = (number, pair.kind, f"{pair.likeness:.4f}", mirror, pair.file, pair.other_file)
        lines.writerow(row)
    return stream.getvalue().encode("utf-8", "surrogateescape")
