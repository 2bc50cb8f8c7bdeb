"""Names of rules that a record can break, and the refusal that only looking turns into a reason."""

from __future__ import annotations

from ..errors import DataError

UNKNOWN = "label not in the class list"
UNREADABLE, DAMAGED = "not a readable PNG, JPEG, WebP or BMP", "truncated or damaged"
NO_LABELS = "has no column label or class"  # of a table or parquet file
NOT_FINITE, NOT_IN_ONE = "not finite", "floats outside 0..1"


def refuse(message: str, refusals: list[str] | None) -> None:
    """DataError; where somebody only looks, the reason goes into `refusals` and reading goes on."""
    if refusals is None:
        raise DataError(message)
    refusals.append(message)
