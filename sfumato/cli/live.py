"""The progress line of adaptation and synthesis, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_SECONDS = 10.0


def clock(seconds: float) -> str:
    """Seconds as 0:41 or 1:02:03."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def about(seconds: float) -> str:
    """A duration in one or two figures: about 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class LiveLine:
    """One line that is rewritten on a terminal.

    Elsewhere, a line at each stage and every ten seconds. `quiet` prints nothing (all ranks but the
    first).
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.live = None
        self.last = 0.0

    def __enter__(self) -> LiveLine:
        if self.terminal and not self.quiet:
            from rich.console import Console
            from rich.live import Live

            self.live = Live(
                console=Console(stderr=True),
                refresh_per_second=8,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.__exit__(kind, error, trace)

    def say(self, text: str, force: bool = True) -> None:
        """Show `text`; off a terminal only if `force` or if the last line is old enough."""
        if self.quiet:
            return
        if self.live is not None:
            from rich.text import Text

            self.live.update(Text(text))
        elif force or time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def stage(self, name: str) -> None:
        """A stage begins. A note is no stage: it stays on the screen above the live line."""
        if not name.startswith("note: "):
            self.say(f"{name} ...")
        elif self.live is not None and not self.quiet:
            self.live.console.print(name, markup=False, highlight=False)
        else:
            self.say(name)

    def step(self, now, plan) -> None:
        """A training step is done: step, epsilon spent of target, images a second, time left."""
        spent = plan.epsilon_after(now.step)
        self.say(
            f"step {now.step}/{now.steps}  ε {spent:.2f}/{plan.epsilon_target:g}  "
            f"{now.rate:.1f} img/s  ETA {clock(now.remaining)}",
            force=now.step == now.steps,
        )
