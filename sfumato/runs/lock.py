"""While a run is under way: signals stop it, and nobody else writes its folder."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from ..compute import ranks
from ..errors import Interrupted, SfumatoError
from ..privacy.files import lock
from .folder import Run

STOPPED = "stopped between two steps; continue with --resume, which does again what had not ended"


class StopFlag:
    """Turns SIGTERM and Ctrl-C into a stop at the next step boundary."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopFlag:
        self.before = {}
        for name in (signal.SIGTERM, signal.SIGINT):
            try:
                self.before[name] = signal.signal(name, lambda *_: setattr(self, "asked", True))
            except ValueError:  # not in the main thread: the caller's own signals stay
                break
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self.before.items():
            signal.signal(name, handler)


class _Stopped(BaseException):  # noqa: N818 (no error: what takes any for a bad picture lets it by)
    """A signal between two boundaries."""


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """SIGTERM and Ctrl-C end what is inside at once, as an error that says how to go on.

    For all that a charged run does outside `StopFlag`, which comes inside: reading and encoding
    images, votes, a probe, class moments, saving. A death there costs nothing, so neither does
    this.

    Raises:
        Interrupted: There was a signal.
    """
    before = {}

    def stop(*_: int | FrameType | None) -> NoReturn:
        for name in before:
            signal.signal(name, signal.SIG_IGN)  # a second one must not spoil the message
        raise _Stopped

    try:
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, stop)
    except ValueError:  # not in the main thread: the caller's own signals stay
        before.clear()
    stopped = False
    try:
        yield
    except (_Stopped, KeyboardInterrupt):
        stopped = True
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    if stopped:  # apart, so that the error keeps no frame alive, and with it a decoder's lock
        raise Interrupted(STOPPED)


@contextlib.contextmanager
def unless_charged(run: Run) -> Iterator[None]:
    """What is refused or stopped inside leaves no folder, unless the run was charged meanwhile.

    Raises:
        Interrupted: Ctrl-C came after the charge, which stays: the run goes on.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not run.ledger.charged_events():
            shutil.rmtree(run.folder)
        elif isinstance(error, KeyboardInterrupt):
            raise Interrupted(STOPPED) from None
        raise


class one_writer:
    """One process at a time works in a run folder; none in a finished run.

    Or shards of an inversion or an evolution, each once, side by side.
    """

    def __init__(self, run: Run, shard: tuple[int, int] | None = None):
        self.run, self.shard = run, shard

    def __enter__(self) -> None:
        self.handles = []
        try:
            ranks.on_first_rank(self._lock)
        except SfumatoError:
            self.__exit__()
            raise

    def _lock(self) -> None:
        # Whoever adds up must be alone: a shard that still works would write private files after
        # they were deleted.
        wanted = {"active.lock": self.shard is not None}  # name -> whether it is shared
        if self.shard is not None:
            wanted[f"active-{self.shard[0]}-{self.shard[1]}.lock"] = False
        for name, shared in wanted.items():
            self.handles.append(open(self.run.folder / name, "a+"))
            try:
                lock(self.handles[-1], shared=shared, wait=False)
            except BlockingIOError as error:
                raise SfumatoError(
                    "another process is working in this run folder: wait for it"
                ) from error
        if (self.run.folder / "model").exists():
            raise SfumatoError(f"{self.run.folder} was finished meanwhile: synthesize from it")

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.close()
