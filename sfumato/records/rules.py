"""Names of rules that a record can break, and the refusal that only looking turns into a reason."""

from __future__ import annotations

from ..errors import DataError

UNKNOWN = "label not in the class list"
UNREADABLE, DAMAGED = "not a picture in a format that is read", "truncated or damaged"
NEEDS_MEDICAL = "DICOM or NIfTI, which needs pip install 'sfumato[medical]'"
NEEDS_HEIC = "HEIC, which needs pip install 'sfumato[heic]'"
NO_DECODER = "compressed in a way that no installed decoder reads"
NO_RANGE = "numbers without a black and a white of their own"
POINTER = "a pointer of git-lfs, not the file"
NO_LABELS = "has no column label or class"  # of a table or parquet file
NOT_FINITE, NOT_IN_ONE = "not finite", "floats outside 0..1"


def refuse(message: str, refusals: list[str] | None) -> None:
    """DataError; where somebody only looks, the reason goes into `refusals` and reading goes on."""
    if refusals is None:
        raise DataError(message)
    refusals.append(message)
