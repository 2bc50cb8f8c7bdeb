"""How far a stage is, told through the callback that names the stages (`on_stage`).

A `Counted` is a line like any other, so that every callback can print it; the command line makes a
time left of its numbers. These follow from pace and counts, and nothing of them enters a release.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

OnStage = Callable[[str], None]

_listener: ContextVar[OnStage | None] = ContextVar("listener", default=None)


class Counted(str):
    """A line "what: done of total" with its numbers.

    Attributes:
        what: The stage.
        done: How much is done, in any unit.
        total: Of how much.
    """

    __slots__ = ("done", "total", "what")

    what: str
    done: float
    total: float

    def __new__(cls, what: str, done: float, total: float) -> Counted:
        """The line; a share where the unit is not one."""
        whole = isinstance(done, int) and isinstance(total, int)
        said = f"{done:,} of {total:,}" if whole else f"{done / total:.0%}"
        made = super().__new__(cls, f"{what}: {said}")
        made.what, made.done, made.total = what, done, total
        return made


@contextmanager
def listening(on_stage: OnStage) -> Generator[None]:
    """Inside, `tell` reaches `on_stage`: for rooms that take no callback."""
    token = _listener.set(on_stage)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: float, total: float) -> None:
    """Say how far a stage is, if anybody listens.

    Args:
        what: The stage.
        done: How much is done, in any unit.
        total: Of how much.
    """
    heard = _listener.get()
    if heard is not None and total:
        heard(Counted(what, min(done, total), total))
