"""The decoder's process watched by its parent, if it cannot limit itself (limits.py)."""

from __future__ import annotations

import subprocess
import threading

import psutil

from .limits import MEMORY, TOO_LONG, TOO_MUCH

EVERY = 0.02  # seconds between two looks


class Watch:
    """Ends the process if it takes more than `seconds` of processor time, or MEMORY bytes.

    From now until `stop()`.
    """

    def __init__(self, child: subprocess.Popen[bytes], seconds: float):
        self.child, self.seconds = child, seconds
        self._rule: str | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch of a decoder", daemon=True)
        try:
            self._process = psutil.Process(child.pid)
            self._before = _seconds_of(self._process)
        except psutil.Error:  # it is gone: reading its answer will say so
            self._done.set()
        self._thread.start()

    def stop(self) -> str | None:
        """The rule for which the process was ended, if it was."""
        self._done.set()
        self._thread.join()
        return self._rule

    def _look(self) -> None:
        while not self._done.wait(EVERY):
            try:
                if _seconds_of(self._process) - self._before > self.seconds:
                    self._rule = TOO_LONG
                elif _bytes_of(self._process) > MEMORY:
                    self._rule = TOO_MUCH
                else:
                    continue
            except psutil.Error:
                return
            self.child.kill()
            return


def _seconds_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _bytes_of(process: psutil.Process) -> int:
    """What it was promised on Windows, what it has in memory elsewhere."""
    memory = process.memory_info()
    return getattr(memory, "private", memory.rss)
