"""The progress line of every verb that takes a while, on stderr: what is done, and the time left.

It is for whoever runs the verb. Paces and times follow the sizes of batches and files: nothing of
them is written into a release, nor into a run but for its own page (`runs/progress_page.py`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from ..options import Counted, parse

PLAIN_SECONDS = 10.0
SILENT_SECONDS = 2.0  # after which a stage that cannot be counted shows the time so far


def clock(seconds: float) -> str:
    """Seconds as 0:41 or 1:02:03."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class LiveLine:
    """One line that is rewritten on a terminal.

    Elsewhere, a line at each stage and every ten seconds, also where a stage says nothing by
    itself. `quiet` prints nothing (all ranks but the first). `clock`: seconds, for tests.
    """

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet, self.clock = quiet, clock
        self.terminal = sys.stderr.isatty()
        self.live = None
        self.last, self.printed = -PLAIN_SECONDS, ""  # when something was last printed, and what
        self.text, self.since = "", clock()  # what is going on, and since when
        self.counted: Counted | None = None
        self.first = 0.0  # how much was done when counting began
        self._ended, self._turn = threading.Event(), threading.Lock()

    def __enter__(self) -> LiveLine:
        if self.quiet:
            return self
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            self.live = Live(
                console=Console(stderr=True),
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=self._shown,
            )
            self.live.__enter__()
        else:
            threading.Thread(target=self._keep_beating, daemon=True).start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:  # nothing is printed after this
            self._ended.set()
        if self.live is not None:
            self.live.__exit__(kind, error, trace)

    def say(self, text: str, force: bool = True) -> None:
        """Show `text`; off a terminal only if `force` or if the last line is old enough."""
        self.counted = None
        self._begin(text)
        self._print(text, force)

    def stage(self, name: str) -> None:
        """A stage begins, or says how far it is (`Counted`).

        A note is no stage: it stays on the screen above the live line.
        """
        if isinstance(name, Counted):
            self.count(name)
        elif not name.startswith("note: "):
            self.say(f"{name} ...")
        elif self.live is not None and not self.quiet:
            self.live.console.print(name, markup=False, highlight=False, soft_wrap=True)
        else:
            self._print(name, True)

    def count(self, now: Counted) -> None:
        """How far a stage is, with the time left at the pace since it was first counted."""
        if self.counted is None or self.counted.what != now.what or now.done < self.first:
            # what was done before counting began says nothing about the pace
            self.since, self.first = self.clock(), now.done
        self.counted, self.text = now, str(now)
        self._print(self.line(), now.done >= now.total)

    def line(self) -> str:
        """What is going on now, with the time left where it is known, else the time so far."""
        taken, now = self.clock() - self.since, self.counted
        if now is None:
            shown = taken >= SILENT_SECONDS and self.text.endswith("...")
            return f"{self.text} {clock(taken)} so far" if shown else self.text
        done = now.done - self.first
        if done <= 0 or now.done >= now.total:
            return self.text
        return f"{now}, {parse.about(taken / done * (now.total - now.done))} left"

    def step(self, now, plan) -> None:
        """A training step is done: step, epsilon spent of target, images a second, time left."""
        spent = plan.epsilon_after(now.step)
        self.say(
            f"step {now.step}/{now.steps}  ε {spent:.2f}/{plan.epsilon_target:g}  "
            f"{now.rate:.1f} img/s  ETA {clock(now.remaining)}",
            force=now.step == now.steps,
        )

    def beat(self) -> None:
        """Off a terminal: says what is going on if nothing was said for ten seconds."""
        with self._turn:
            if self.text and not self._ended.is_set() and self.line() != self.printed:
                self._print(self.line(), False)

    def _keep_beating(self) -> None:
        while not self._ended.wait(1):
            self.beat()

    def _begin(self, text: str) -> None:
        self.text, self.since = text, self.clock()

    def _shown(self):
        from rich.text import Text

        return Text(self.line())

    def _print(self, text: str, force: bool) -> None:
        if self.quiet or self.live is not None:
            return
        if force or self.clock() - self.last >= PLAIN_SECONDS:
            self.last, self.printed = self.clock(), text
            print(text, file=sys.stderr, flush=True)


def asking(line: LiveLine) -> Callable[[list[tuple[str, str]]], bool] | None:
    """Shows a person all that a release would make public and asks for a yes; None where nobody
    sits at a terminal.
    """
    if not _somebody(line):
        return None

    def ask(listed: list[tuple[str, str]]) -> bool:
        rows = [f"  {name}: {value}\n" for name, value in listed]
        text = "Every release of this run would make public, word for word:\n" + "".join(rows)
        return _says_yes(line, text + "Is all of it public? [y/N] ")

    return ask


def asking_first(line: LiveLine) -> Callable[[float], bool]:
    """Asks a person whether so many seconds may be taken; yes where nobody sits at a terminal."""
    if not _somebody(line):
        return lambda seconds: True
    return lambda seconds: _says_yes(line, f"Evaluate for {parse.about(seconds)}? [y/N] ")


def _somebody(line: LiveLine) -> bool:
    return sys.stdin.isatty() and line.terminal and not line.quiet


def _says_yes(line: LiveLine, question: str) -> bool:
    if line.live is not None:
        line.live.stop()
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    if line.live is not None:
        line.live.start()
    return answer in ("y", "yes")
