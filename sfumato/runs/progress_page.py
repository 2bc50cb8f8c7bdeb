"""`run/progress.html`: a run that shows itself, for its owner, without a studio.

A static page that loads itself again. It holds what the progress line says, and the sheets of
samples that the run draws anyhow (`samples`): never a loss, a norm or a batch's size. PRIVATE.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markupsafe import Markup

from .. import pages
from ..errors import Interrupted
from ..options import parse
from ..privacy.plan import Plan
from ..training import Progress
from .folder import Run
from .samples import FOLDER

FILE, FACTS = "progress.html", "progress.json"
SECONDS = 3.0  # between two versions of the page, and until a browser loads it again
SHEETS = 3
REFRESH = Markup('<meta http-equiv="refresh" content="{}"/>\n').format(int(SECONDS))
STYLE = "progress { width: 100%; accent-color: var(--accent); } img { max-width: 100%; }\n"

Tell = Callable[[Progress, Plan], None]
Say = Callable[[str], None]


class ProgressPage:
    """The page of one attempt."""

    def __init__(self, run: Run) -> None:
        self.run, self.stage = run, "beginning"
        self.now: Progress | None = None
        self._written = -SECONDS

    def step(self, now: Progress) -> None:
        """A step is done."""
        self.now = now
        self.write(now.step == now.steps)

    def say(self, line: str) -> None:
        """A stage begins, or says how far it is."""
        if not line.startswith("note: "):
            self.stage = line
            self.write()

    def write(self, always: bool = False, *, ended: str = "") -> None:
        """The page anew, at most every few seconds; a full disk is no reason to end a run.

        Args:
            always: Now, however short ago the last one was.
            ended: How the run ended, in a sentence; else it goes on, and the page loads itself.
        """
        if not always and time.monotonic() - self._written < SECONDS:
            return
        self._written = time.monotonic()
        for name, text in ((FILE, self.page(ended)), (FACTS, json.dumps(self.facts(ended)))):
            place = self.run.folder / name
            part = place.with_suffix(".part")
            try:
                part.write_text(text, "utf-8")
                part.replace(place)
            except OSError:
                return

    def facts(self, ended: str) -> dict[str, Any]:
        """The same for another page: step, steps, epsilon so far and in all, pace, stage."""
        plan, now = self.run.plan, self.now
        step = 0 if now is None else now.step
        return {
            "step": step,
            "steps": plan.steps,
            "epsilon": plan.epsilon_after(step) if step else 0.0,
            "of": plan.epsilon,
            "rate": None if now is None else now.rate,
            "left": None if now is None else parse.about(now.remaining),
            "stage": ended or self.stage,
            "ended": bool(ended),
        }

    def page(self, ended: str) -> str:
        """All of it."""
        plan, now = self.run.plan, self.now
        step = 0 if now is None else now.step
        spent = plan.epsilon_after(step) if step else 0.0
        rows = [
            ("step", f"{step:,} of {plan.steps:,}" if plan.steps else "one noisy sum"),
            ("epsilon so far", f"{spent:.2f} of {plan.epsilon:.2f}; all of it is charged"),
        ]
        if now is not None and not ended:
            rows.append(("pictures a second", f"{now.rate:.1f}"))
            rows.append(("time left", parse.about(now.remaining)))
        cells = (Markup("<tr><th>{}</th><td>{}</td></tr>\n").format(*row) for row in rows)
        body = Markup(
            '<h1>{}</h1>\n<p class="private"><b>PRIVATE.</b> This page stays in the run folder.'
            "</p>\n"
            '<p class="lead" role="status">{}</p>\n'
            '<progress value="{}" max="{}" aria-label="steps"></progress>\n<table>\n{}</table>\n{}'
        ).format(
            "A run, as it goes" if not ended else "A run, as it went",
            ended or self.stage,
            step,
            plan.steps or 1,
            Markup().join(cells),
            self._sheets(),
        )
        return pages.page("Run", body, style=STYLE, head=Markup() if ended else REFRESH)

    def _sheets(self) -> Markup:
        found = sorted((self.run.folder / FOLDER).glob("step-*.png"), reverse=True)[:SHEETS]
        if not found:
            return Markup("<p>No pictures yet. A short run may have none before its end.</p>\n")
        said = Markup(
            "<h2>Pictures on the way</h2>\n<p>They cost nothing: every step is paid for, seen or"
            " not. There is no curve of the loss: that one is private and would cost.</p>\n"
        )
        return said + Markup().join(map(_sheet, found))


def _sheet(place: Path) -> Markup:
    step = int(place.stem.partition("-")[2])
    return Markup(
        '<figure><img src="{}/{}" alt="{}"/><figcaption>step {:,}</figcaption></figure>\n'
    ).format(
        FOLDER,
        place.name,
        f"Step {step:,}: pictures of the public base above, of this run below",
        step,
    )


@contextmanager
def shown(run: Run, tell: Tell, on_stage: Say) -> Iterator[tuple[Tell, Say]]:
    """Inside, what is told about a run is also on its page.

    Args:
        run: The run.
        tell: Called after every step.
        on_stage: Called with a line for every stage.

    Yields:
        The two, for the run to call.
    """
    page = ProgressPage(run)

    def step(now: Progress, plan: Plan) -> None:
        page.step(now)
        tell(now, plan)

    def stage(line: str) -> None:
        page.say(line)
        on_stage(line)

    try:
        yield step, stage
    except Interrupted:
        page.write(True, ended="The run stopped. It can go on, at no extra cost: --resume")
        raise
    except BaseException:
        page.write(True, ended="The run ended early: the terminal says why")
        raise
    page.write(True, ended="The run is finished")
