"""While a run is under way: signals stop it at the next step, and nobody else writes its folder."""

from __future__ import annotations

import signal

from ..compute import ranks
from ..errors import SfumatoError
from ..privacy.files import lock
from .folder import Run


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
