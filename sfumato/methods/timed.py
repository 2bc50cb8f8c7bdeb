"""`--time`: the schedule of DP-SGD that takes about so long on this machine.

It follows from public facts, the options and the pace on dummy data. Steps and batch then stand in
the plan, and never follow how long a run really takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import SfumatoError
from ..options import Performance, Schedule, parse
from .pace import Pace, default_samples_every

FEWEST_STEPS = 20
MOST_STEPS = 700  # the longest schedule that was ever measured (docs/results.md)
FEWEST_UNITS = 16  # a step
# Below this epsilon noise rules: there, draws of a unit are worth more than further units a step.
NOISY = 3.0


@dataclass(frozen=True)
class Wanted:
    """What a schedule is solved for.

    Attributes:
        seconds: The whole run's.
        fixed: Of these, what no schedule changes.
        method: Its name, for the refusal.
        asked: What the user fixed of the schedule.
        usual: The schedule that a run has without a time.
        n_units: Units.
        epsilon: Of the run.
        classes: How many.
    """

    seconds: float
    fixed: float
    method: str
    asked: Schedule
    usual: Schedule
    n_units: int
    epsilon: float
    classes: int


def rungs(want: Wanted) -> Iterator[tuple[int, int]]:
    """(expected batch, draws) from the cheapest to the dearest, around the usual schedule.

    First the batch grows to the usual one; then draws where noise rules, else the batch once more.
    """
    usual, n = want.usual.expected_batch_size, want.n_units
    assert usual is not None
    wide = max(usual, min(2 * usual, n // 2))
    small = [max(min(FEWEST_UNITS, n), usual // 4), max(min(FEWEST_UNITS, n), usual // 2), usual]
    dear = [(usual, 2), (usual, 4)] if want.epsilon < NOISY else [(wide, 1), (wide, 2)]
    seen = set()
    for batch, draws in [*((b, 1) for b in small), *dear, (wide, 4)]:
        rung = want.asked.expected_batch_size or batch, want.asked.noise_draws or draws
        if rung not in seen:
            seen.add(rung)
            yield rung


def solve(pace: Pace, want: Wanted, performance: Performance) -> Schedule:
    """The dearest rung on which the time is enough for the usual number of steps, and its steps.

    Raises:
        SfumatoError: No schedule is that short; the message says what would be.
    """
    assert want.usual.steps is not None
    found = None
    for batch, draws in rungs(want):
        steps = _steps(pace, want, performance, batch, draws)
        if found is None or steps >= want.usual.steps:
            found = Schedule(batch, steps, draws) if steps >= FEWEST_STEPS else None
        if found is None:
            least = _seconds(pace, want, performance, Schedule(batch, FEWEST_STEPS, draws))
            raise SfumatoError(
                f"--time {parse.in_words(want.seconds)}: the shortest run of --method"
                f" {want.method} on this base takes about {parse.in_words(least)} here: give"
                f" {parse.enough(least)}, train fewer numbers (--method lora or embedding),"
                " or take a smaller base"
            )
    assert found is not None  # there is always a rung
    return found


def _steps(pace: Pace, want: Wanted, performance: Performance, batch: int, draws: int) -> int:
    """The most steps of a rung within the time; a round number, so that it is stable."""
    low, high = 0, MOST_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        taken = _seconds(pace, want, performance, Schedule(batch, middle, draws))
        low, high = (middle, high) if taken <= want.seconds else (low, middle - 1)
    return low - low % 5 if low > 2 * FEWEST_STEPS else low


def _seconds(pace: Pace, want: Wanted, performance: Performance, schedule: Schedule) -> float:
    every = performance.samples_every
    if every is None:
        every = default_samples_every(performance, schedule, want.classes)
    batch, steps, draws = schedule.expected_batch_size, schedule.steps, schedule.noise_draws
    assert batch is not None and steps is not None and draws is not None
    kept = performance.checkpoint_steps
    return want.fixed + pace.seconds(batch, draws, steps, kept, every)
