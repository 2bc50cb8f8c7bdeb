"""Files that hold several pictures, or say whose picture they are: DICOM, NIfTI and TIFF.

Which frames become records follows from the declared rule and one file alone. What a header says is
read in the decoder's process; only tags that serve as label, caption or unit come out of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import SfumatoError
from ..options.frames import PLAIN, chosen, gives_several
from .bounded import headers
from .dicom import BURNT, OVERLAY, PERHAPS, is_keyword
from .pictures import BEFORE
from .rules import refuse
from .sniff import DICOM, HEIC
from .spelling import unit_value
from .split import file_digests

T = TypeVar("T")
FILE, PATIENT, STUDY = "file", "PatientID", "StudyInstanceUID"
OF_THE_PICTURE = ("Modality", "BodyPartExamined", "ViewPosition")  # kinds, and no person
SHOWN = (PATIENT, *OF_THE_PICTURE)  # to somebody who looks
NEEDED = "pip install 'sfumato[medical]'"
NO_PICTURE = "DICOM without a picture (report, plan, waveform, directory)"
# What anonymisers write for every patient.
NOBODY = re.compile(
    r"anon\w*|unknown|none|nil|null|n/?a|no ?(id|name)|removed|redacted|de-?identified|x+|0+"
    r"|[-*.?]+"
)
OTHER_UNITS = (
    "--unit COLUMN of a table, --unit folder, another tag such as --unit StudyInstanceUID, or"
    " --unit file if no person is in two files"
)
WARNINGS = {
    BURNT: "{} DICOM files say that text is burnt into their pixels (names, dates?): look at them,"
    " and cut it out before training",
    PERHAPS: "{} DICOM files do not say whether text is burnt into their pixels, and are of a kind"
    " that often has some (ultrasound, captures): look at them on a --sheet",
    OVERLAY: "{} DICOM files have overlays, which are not drawn",
}


class Reader(Protocol):
    """Files by place: `read`, and their first bytes and names."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the files are called."""
        ...

    def __call__(self, slot: int) -> bytes:
        """A whole file."""
        ...

    def kind(self, slot: int) -> str | None:
        """What its first bytes say (`sniff.kind_of`)."""
        ...


@dataclass(frozen=True)
class Frames:
    """slot -> bytes of the file that holds it, and which of its frames it is."""

    files: Reader
    rows: np.ndarray  # int64 [n] place of the file
    frames: np.ndarray  # int64 [n]

    def __call__(self, slot: int) -> bytes:
        """The file of a slot."""
        return self.files(int(self.rows[slot]))

    def frame(self, slot: int) -> int:
        """Which frame of it."""
        return int(self.frames[slot])

    @property
    def names(self) -> tuple[str, ...]:
        """What each slot is called: its file, and the frame if it is a later one."""
        pairs = zip(self.rows.tolist(), self.frames.tolist())
        return tuple(self.files.names[r] + (f" (frame {f + 1})" if f else "") for r, f in pairs)


@dataclass(frozen=True)
class Spread:
    """The slots of a source of files, and what their headers say.

    Attributes:
        reader: Reads them.
        tags: Keyword -> the value of each slot, None where there is none.
        kinds: Files by kind, of those that have one.
        all_dicom: Whether every file that has a slot is DICOM.
        broken: The rule that each slot's header breaks, or None.
        left_out: Files without a picture: reason -> count.
        marked: Files that the owner is warned of: `dicom.BURNT` and the like -> count.
    """

    reader: Frames
    tags: dict[str, list[str | None]]
    broken: list[str | None]
    kinds: Counter = field(default_factory=Counter)
    all_dicom: bool = False
    left_out: Counter = field(default_factory=Counter)
    marked: Counter = field(default_factory=Counter)

    def of(self, values: Sequence[T] | None) -> list[T] | None:
        """A column of files as one of slots."""
        return None if values is None else [values[row] for row in self.reader.rows.tolist()]


def tags_of(options: dict[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Which of labels, captions and unit name a DICOM tag, and not a column of a table."""
    asked = {what: options[what] for what in ("labels", "captions", "unit")}
    return {
        what: name
        for what, name in asked.items()
        if name is not None and name not in columns and is_keyword(name)
    }


def spread(files: Reader, n: int, rule: str | None, tags: Sequence[str]) -> Spread:
    """Looks at the headers of all files that may have frames or tags, and lays out the slots.

    Args:
        files: The source.
        n: Files in it.
        rule: Of frames, as declared.
        tags: Keywords of tags to bring.
    """
    asked = list(dict.fromkeys((*tags, PATIENT, STUDY)))
    if rule == PLAIN:
        return _plain(files, n, asked)
    kinds = [files.kind(at) for at in range(n)]
    looked = [at for at, kind in enumerate(kinds) if kind not in (None, HEIC)]
    said: dict[int, dict[str, Any] | str] = dict(headers(files, looked, asked))
    places: list[tuple[int, int]] = []
    left_out, marked = Counter(), Counter()
    for at in range(n):
        head = said.get(at)
        if not isinstance(head, dict):  # a plain picture, or one that breaks a rule: it has a slot
            places.append((at, 0))
        elif not head["picture"]:
            left_out[NO_PICTURE] += 1
        else:
            marked.update(head["marks"])
            own = rule or ("middle" if kinds[at] != "TIFF" else "first")
            places += [(at, frame) for frame in chosen(own, head["frames"])]
    there = np.array(places, np.int64).reshape(-1, 2)
    rows = there[:, 0]
    heads = [said.get(row) for row in rows.tolist()]
    values = {
        name: [head["tags"].get(name) if isinstance(head, dict) else None for head in heads]
        for name in asked
    }
    found = {kinds[row] for row in rows.tolist()}
    counted = Counter(kind for kind in kinds if kind is not None)
    all_dicom = found == {DICOM}
    broken = [head if isinstance(head, str) else None for head in heads]
    reader = Frames(files, rows, there[:, 1])
    return Spread(reader, values, broken, counted, all_dicom, left_out, marked)


def _plain(files: Reader, n: int, tags: Sequence[str]) -> Spread:
    """Each file as one picture, if it is PNG, JPEG, WebP or BMP."""
    reader = Frames(files, np.arange(n), np.full(n, BEFORE))
    return Spread(reader, dict.fromkeys(tags, [None] * n), [None] * n)


@dataclass(frozen=True)
class Cells:
    """Pictures in a table's cells, read as versions before read them."""

    read: Callable[[int], bytes]

    def __call__(self, slot: int) -> bytes:
        """The encoded picture."""
        return self.read(slot)

    def frame(self, slot: int) -> int:
        """As `Frames.frame`."""
        return BEFORE


def with_tags(
    found: Spread, listed: dict[str, Any], tags: dict[str, str], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Labels, captions and units of slots, and the options with the unit that they follow.

    Args:
        found: The slots.
        listed: Columns of files: `labels`, `captions`, `unit`.
        tags: Which of them are tags; see `tags_of`.
        options: As in `load_records`.
    """
    columns = {what: found.of(values) for what, values in listed.items()}
    for what, name in tags.items():
        if not found.kinds[DICOM]:  # of plain pictures none is
            raise SfumatoError(
                f"{name!r} is a DICOM tag, and there is no DICOM file: name a column"
            )
        columns[what] = found.tags[name]
    unit = options["unit"]
    if found.all_dicom and find_spec("pydicom") is None:
        refuse(f"the files are DICOM: {NEEDED}", options["refusals"])
        return columns, options
    if unit is None:
        unit = _default_unit(found, options)
        if unit == PATIENT:
            columns["unit"] = found.tags[PATIENT]
    if unit == PATIENT and columns["unit"] is found.tags[PATIENT]:
        columns["unit"] = _people(found.tags[PATIENT], found.tags[STUDY], options["refusals"])
        unit = None if columns["unit"] is None else unit
    if unit == FILE and columns["unit"] is None:
        columns["unit"] = _of_files(found)
    return columns, options | {"unit": unit}


def _default_unit(found: Spread, options: dict[str, Any]) -> str | None:
    """The unit where none is named: the patient of DICOM; the file, if frames of one are several.

    Whether a set is DICOM follows from its files' kinds; where they differ nothing is guessed.
    """
    if found.all_dicom:
        return PATIENT
    if found.kinds[DICOM] > sum(found.left_out.values()):
        refuse(
            "DICOM files and others lie together, and only DICOM says whose a picture is: name what"
            f" is protected with {OTHER_UNITS}",
            options["refusals"],
        )
    return FILE if gives_several(options["frames"]) else None


def _people(
    values: Sequence[str | None], studies: Sequence[str | None], refusals: list[str] | None
) -> list[str | None] | None:
    """PatientID of each slot, None where it names nobody; refused if it tells no people apart."""
    kept = [None if value is None or _names_nobody(value) else value for value in values]
    people = {unit_value(value) for value in kept if value is not None}
    why = ""
    if kept and not people:
        why = "PatientID is missing, or the same word for everybody, in every file (anonymised?)"
    elif len(people) == 1 and len(set(studies)) > 1:
        why = "PatientID is the same in every file, in several studies (anonymised?)"
    if not why:
        return kept
    refuse(f"{why}: name what is protected with {OTHER_UNITS}", refusals)
    return None


def people_apart(
    values: Sequence[str | None], unit: np.ndarray, rules: Sequence[str | None]
) -> int:
    """How many patients have pictures that can be used in several units: none protects them whole.

    Private: it follows from a tag that no plan reads where the unit is another.

    Args:
        values: PatientID of each slot.
        unit: int64 [n] units.
        rules: The rule that each slot breaks; one that breaks any trains nothing.
    """
    units: dict[str, set[int]] = {}
    for value, number, rule in zip(values, unit.tolist(), rules, strict=True):
        if value is not None and rule is None and not _names_nobody(value):
            units.setdefault(unit_value(value), set()).add(number)
    return sum(len(held) > 1 for held in units.values())


def _names_nobody(value: str) -> bool:
    return NOBODY.fullmatch(unit_value(value)) is not None


def _of_files(found: Spread) -> list[str | None]:
    """A unit for each file: by its bytes, so that copies under two names are one."""
    reader = found.reader
    read: Callable[[int], bytes] = reader.files
    digests = file_digests(read, len(reader.files.names))
    return [f"file-{digests[row].hex()}" if digests[row] else None for row in reader.rows.tolist()]


def warnings_of(marked: Counter | dict[str, int]) -> list[str]:
    """What the owner is told of headers, a line each."""
    return [text.format(f"{marked[mark]:,}") for mark, text in WARNINGS.items() if marked.get(mark)]
