"""Which layout the private images were read in, and what else the same files could be."""

from __future__ import annotations

from pathlib import Path

from .columns import label_column
from .frames import SHOWN
from .layouts.choose import is_flat
from .recordset import RecordSet

# What else `--layout` may say, by what was seen.
OTHERWISE = {
    "folder": "inner (each folder that holds images is a class), flat (no classes)",
    "inner": "folders (each folder at the top is a class), flat (no classes)",
    "kohya": "folders (the number is a part of the class), inner, flat (no classes)",
    "table": "folders (each folder at the top is a class), flat (no classes)",
    "coco": "table, folders (each folder at the top is a class), flat (no classes)",
}
FEW_EACH = 10  # records per class folder below which the folders may be people


def layout_of(
    records: RecordSet,
    labels: str | None = None,
    unlabelled: bool = False,
    captions: str | None = None,
) -> list[str]:
    """The layout in one line, and one line for every other reading that is worth a thought.

    Args:
        records: As read.
        labels: The label column that was named.
        unlabelled: Whether all records were read as one class.
        captions: The caption column that was named.
    """
    otherwise = OTHERWISE.get(records.kind, "folders, flat: images beside these files")
    seen = [f"seen: {line}" for line in records.facts.layout]
    read = _read_as(records, labels, unlabelled, captions)
    return [*read, *_of_kinds(records), *seen, f"to read it otherwise: --layout {otherwise}"]


def _read_as(
    records: RecordSet, labels: str | None, unlabelled: bool, captions: str | None
) -> list[str]:
    tag = labels is not None and labels not in records.facts.columns
    if records.kind == "folder" and (tag or labels in SHOWN) and not unlabelled:
        return [f"layout: a folder tree of DICOM files; classes from the tag {labels!r}"]
    if records.kind in ("folder", "inner", "kohya"):
        return _of_folder(records, unlabelled)
    named = labels or label_column(records.facts.columns)
    if unlabelled:
        lines = [f"layout: {_source(records)}; all records are one class"]
    elif records.kind in ("npz", "idx"):
        lines = [f"layout: {_source(records)}; classes from the array {labels or 'labels'!r}"]
    elif named:
        lines = [f"layout: {_source(records)}; classes from the column {named!r}"]
    elif records.kind == "coco":
        lines = [f"layout: {_source(records)}; classes from the categories"]
    else:
        lines = [
            f"layout: {_source(records)}; classes from the folder names, because it has no column"
            " label or class (name one with --labels)"
        ]
    used = {"file_name", "image", named, records.unit_column, captions}
    unused = [name for name in records.facts.columns if name not in used]
    if unused and records.kind not in ("npz", "idx"):
        names = ", ".join(map(repr, unused))
        lines.append(f"columns not used: {names} (see --labels, --unit, --caption-column)")
    return lines


def _of_folder(records: RecordSet, unlabelled: bool) -> list[str]:
    if unlabelled:
        flat = (
            "a flat folder of images, one class: --method inversion and embedding take it as it is,"
            " other methods with --unlabelled"
        )
        kind = (
            flat if is_flat(Path(records.source)) else "a folder tree of images, read as one class"
        )
        return [
            f"layout: {kind}",
            "for several classes, make one folder per class, or add metadata.csv with the columns"
            " file_name and label",
        ]
    folders = len(records.classes) + len(records.few)
    named = {
        "inner": "each folder that holds images is a class",
        "kohya": "each folder name without its number is a class",
    }.get(records.kind, "each folder name is a class")
    lines = [f"layout: class folders ({folders}), {named}"]
    if folders > 3 and records.n <= FEW_EACH * folders:
        lines.append(
            "if each folder is a person or a patient and not a class, add metadata.csv with the"
            " columns file_name, label and person, and name the last with --unit"
        )
    return lines


def _of_kinds(records: RecordSet) -> list[str]:
    """Files of several frames, and whose pictures DICOM files are."""
    kinds = {kind: count for kind, count in records.facts.kinds.items() if kind != "HEIC"}
    if not kinds:
        return []
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    lines = [f"files of formats with frames: {named}; {records.n:,} records (see --frames)"]
    if records.unit_column == "PatientID":
        lines.append("the privacy unit is the patient, by PatientID of each file (else: --unit)")
    if "NIfTI" in kinds and records.unit_column in (None, "file"):
        lines.append(
            "each NIfTI volume is a unit of its own: where a person has several, take --unit"
            " folder, or a table with a column for the person"
        )
    return lines


def _source(records: RecordSet) -> str:
    name = Path(records.source).name
    return {
        "table": "a table (metadata.csv or .jsonl) with its images",
        "parquet": "parquet",
        "npz": f"the arrays of {name}",
        "idx": "a pair of idx files",
        "arrow": "Arrow files of `datasets`",
        "webdataset": "WebDataset tar files",
        "coco": "COCO annotations with their images",
    }.get(records.kind, records.kind)
