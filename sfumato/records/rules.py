"""Names of rules that a record can break, and the refusal that only looking turns into a reason."""

from __future__ import annotations

from ..errors import DataError

UNKNOWN = "label not in the class list"
NOT_FINITE, NOT_IN_ONE = "not finite", "floats outside 0..1"


def refuse(message: str, refusals: list[str] | None) -> None:
    """DataError; where somebody only looks, the reason goes into `refusals` and reading goes on."""
    if refusals is None:
        raise DataError(message)
    refusals.append(message)
