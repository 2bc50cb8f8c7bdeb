"""Which layout the private images were read in, and what else the same files could be."""

from __future__ import annotations

from pathlib import Path

from .folder import is_flat
from .recordset import RecordSet
from .tables import LABEL_COLUMNS

FEW_EACH = 10  # records per class folder below which the folders may be people


def layout_of(records: RecordSet, labels: str | None = None, unlabelled: bool = False) -> list[str]:
    """The layout in one line, and one line for every other reading that is worth a thought.

    Args:
        records: As read.
        labels: The label column that was named.
        unlabelled: Whether all records were read as one class.
    """
    return [*_layout_of(records, labels, unlabelled), *_of_kinds(records)]


def _layout_of(records: RecordSet, labels: str | None, unlabelled: bool) -> list[str]:
    if records.kind == "folder" and labels is not None and not unlabelled:
        return [f"layout: a folder tree of DICOM files; classes from the tag {labels!r}"]
    if records.kind == "folder":
        return _of_folder(records, unlabelled)
    named = labels or next((c for c in LABEL_COLUMNS if c in records.facts.columns), None)
    if unlabelled:
        lines = [f"layout: {_source(records)}; all records are one class"]
    elif records.kind in ("npz", "idx"):
        lines = [f"layout: {_source(records)}; classes from the array {labels or 'labels'!r}"]
    elif named:
        lines = [f"layout: {_source(records)}; classes from the column {named!r}"]
    else:
        lines = [
            f"layout: {_source(records)}; classes from the folder names, because it has no column"
            " label or class (name one with --labels)"
        ]
    used = {"file_name", "image", named, records.unit_column}
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
    lines = [f"layout: class folders ({folders}), each folder name is a class"]
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
    }.get(records.kind, records.kind)
