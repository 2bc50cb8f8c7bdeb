"""Time of a whole run on this machine, from dummy images, and `--time`: the run that takes so long.

No private file is timed: the schedule is public, and must not follow from what is in them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..bases import Base
from ..compute import ranks
from ..methods import METHODS, Method, Prepared
from ..methods.interface import Timed
from ..options import Schedule, parse
from ..privacy.plan import Plan
from ..records import load_records
from ..training.dummy import caption_seconds
from .estimate import fit_to_machine
from .prepare import default_schedule
from .task import Task

# Files that are read to see how long one takes; what a few take is the start of the process that
# decodes them.
DUMMIES, FEW = 200, 8
# What is not timed at run time, since it hardly depends on base or schedule: the process until the
# images are read; libraries, plan and microbatch of a run without --time; then the plan that is
# charged, its certificate's prices, the trial and the end. Measured (docs/performance.md, "Time").
STARTING, COMPOSING, PRICING = 3.0, 11.0, 12.0
USUAL = 0.75  # below this share of the usual schedule a remark says so
TIMED = (
    "Steps and batch were chosen so that a run takes about {} on the owner's machine, timed on"
    " dummy data before the charge."
)


def reading_seconds(base: Base) -> float:
    """Seconds to index, decode and encode one image, on dummy files of its largest size."""
    start = _reading(base, FEW)
    return max((_reading(base, DUMMIES) - start) / (DUMMIES - FEW), 1e-5)


def _reading(base: Base, count: int) -> float:
    rng, (width, height) = np.random.default_rng(0), base.largest
    pictures = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(Path(folder) / f"{number}.png")
        started = time.perf_counter()
        records = load_records(folder, unlabelled=True, yes_public=True)
        # as `training.data.build_latents` does: of several sizes each alone
        for some in np.split(np.arange(count), count if base.buckets else 1):
            found, _ = records.load(some, base.largest)
            base.encode(found)
        return time.perf_counter() - started


def fixed_seconds(prepared: Prepared[Any], composing: float = COMPOSING) -> float:
    """Seconds of a run that no schedule changes: start, reading, and opening the base anew.

    composing: of these, what lies between reading the images and a plan that fits to memory.
    """
    started = time.perf_counter()
    prepared.method.untrained(prepared)
    opening = time.perf_counter() - started
    one = reading_seconds(prepared.base)
    if prepared.plan.captions:
        one += caption_seconds(prepared.base)
    reading = prepared.plan.n_units * one
    # for the trial before the charge, as saved there, and for the samples
    return STARTING + reading + composing + PRICING + 3 * opening


def in_time(
    task: Task, made: Callable[[Task], Prepared[Any]], trying: float = 0.0
) -> Prepared[Any]:
    """A task with the method's options and the schedule that take about `task.schedule.time`.

    What composing and measuring took until there counts, too. How long the private images took to
    read does not: it is estimated from dummies.

    Args:
        task: What is asked.
        made: Prepares a task from public facts alone.
        trying: Seconds that trying the base on public images took before.

    Raises:
        SfumatoError: Nothing takes so little time here; the message says what would.
    """
    seconds = task.schedule.time
    assert isinstance(seconds, float)  # the option is seconds, however it was written
    asked = replace(task.schedule, time=None)

    started = time.perf_counter()
    prepared = made(task)
    composed = time.perf_counter()
    fitted = fit_to_machine(prepared)
    fitting = time.perf_counter() - composed

    def solve() -> tuple[Method, Schedule, Timed]:
        pace, fixed = fitted.method.pace(fitted), fixed_seconds(fitted, composing=0.0)
        passed = trying + time.perf_counter() - started
        # the solved schedule is fitted to memory and checked on this machine, too
        timed = Timed(pace, fixed + passed + fitting)
        return *fitted.method.in_time(fitted, timed, seconds, asked), timed

    method, schedule, timed = ranks.on_first_rank(solve)
    found = made(replace(task, method=method, schedule=schedule))
    said = {"timed": TIMED.format(parse.in_words(seconds))}
    statements = found.options["statements"] | said
    formats = {"formats": fitted.options["formats"]}  # those that the time was measured in
    options = found.options | formats | {"statements": statements, "time": seconds}
    return replace(found, options=options, timed=timed, trials=fitted.trials)


def solved(plan: Plan, seconds: float) -> str:
    """What was solved for a time, in words, and the flags that fix it."""
    said = f"for {parse.in_words(seconds)} on this machine, measured just now"
    flags = METHODS[plan.method].schedule_flags(plan)
    if flags is None:
        return f"the schedule was chosen {said}"
    less = short_of_usual(plan)
    return f"the schedule was chosen {said}{less and '; ' + less} ({flags} fixes it)"


def short_of_usual(plan: Plan) -> str:
    """What a solved schedule lacks of the one without a time limit; empty if it lacks little."""
    if plan.voting is not None:  # candidates were solved for, and all units vote in every round
        return ""
    usual = default_schedule(plan.n_units, plan.epsilon)
    share = plan.steps * plan.expected_batch_size / usual["steps"] / usual["expected_batch_size"]
    return f"it sees {share:.0%} of the images of the usual schedule" if share < USUAL else ""
