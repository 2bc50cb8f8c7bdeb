"""How long the parts of a run of DP-SGD take on this machine, measured on dummy data alone.

So `plan` says a time, and `--time` finds the schedule that takes it, before anything is charged.
No private file is read or timed: what a run may do must not follow from how long its images took.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..compute import ranks
from ..compute.clocks import wall_clock
from ..compute.device import device
from ..options import Performance, Recipe, Sampling, Schedule
from ..privacy.clipping import Clip, equal_shares, per_group
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import add_integer_noise
from ..synthesis.sampler import Sampler
from ..training import LatentData, State, UnitBatch, open_engine, write_checkpoint
from ..training.dummy import made_up_texts
from .adaptation import Adaptation
from .interface import Prepared

# Numbers on which noise, optimiser and checkpoint are timed; the rest is in proportion.
MOST_NUMBERS = 1_000_000
REPEATED = 1.0  # seconds of measuring, below which a part is timed again
SAMPLES_SHARE = 0.05  # of the time, for pictures of the run so far
SHEETS = 4  # of a run at least, where that share pays for them
MOST, FEWEST = 10, 8  # pictures of a sheet: one of each class, or several where there are few


@dataclass(frozen=True)
class Pace:
    """Seconds of a run's parts.

    Attributes:
        unit: One unit's clipped gradient, without its draws.
        draw: One draw of one unit.
        step: Noise, optimiser and average of a step.
        checkpoint: One checkpoint.
        sheet: One sheet of samples.
    """

    unit: float
    draw: float
    step: float
    checkpoint: float
    sheet: float

    def seconds(
        self, batch: float, draws: int, steps: int, checkpoint_steps: int, samples_every: int | None
    ) -> float:
        """Of the steps of a run, with their checkpoints and samples.

        Args:
            batch: Units of a step, on average.
            draws: Draws of a unit.
            steps: How many.
            checkpoint_steps: Steps between checkpoints.
            samples_every: Steps between sheets; 0 or None for none.
        """
        shown = sample_steps(samples_every, steps)
        kept = shown | set(range(checkpoint_steps, steps, checkpoint_steps)) | {steps}
        sheets = len(shown) + bool(shown)  # the public base's own row
        return (
            steps * self.of_step(batch, draws) + len(kept) * self.checkpoint + sheets * self.sheet
        )

    def of_step(self, batch: float, draws: int) -> float:
        """Of one step; ranks share the units."""
        return batch * (self.unit + draws * self.draw) / ranks.world_size() + self.step


def sample_steps(every: int | None, steps: int) -> frozenset[int]:
    """The steps after which pictures are drawn: every so many, and the last one; none for 0.

    None, of a run from before there were any, draws none.
    """
    if not every or every > steps:
        return frozenset()
    return frozenset({*range(every, steps, every), steps})


def default_samples_every(performance: Performance, schedule: Schedule, classes: int) -> int:
    """Steps between pictures of the run so far; 0 for a run in which even one sheet is too dear.

    At every checkpoint, or at each quarter of a run with fewer than four of these; more seldom
    where all rows of pictures, the public base's too, would take 5 % of the time. A picture is one
    forward pass of the denoiser for each step of the sampler; a draw of a unit is about three.
    """
    batch, steps, draws = schedule.expected_batch_size, schedule.steps, schedule.noise_draws
    assert batch is not None and steps is not None and draws is not None
    row = len(shown_classes(classes)) * Sampling().steps
    most = int(SAMPLES_SHARE * 3 * batch * draws * steps / row) - 1
    if most < 1:
        return 0
    kept = performance.checkpoint_steps
    every = math.ceil(steps / min(most, max(SHEETS, math.ceil(steps / kept))))
    # at checkpoints that are there anyhow, if that leaves enough of them
    on_kept = kept * math.ceil(every / kept)
    enough = on_kept <= steps and math.ceil(steps / on_kept) >= min(most, SHEETS)
    return on_kept if enough else every


def shown_classes(classes: int) -> np.ndarray:
    """The class of each picture of a sheet's row, int64.

    Every class once, or often enough for a row.
    """
    each = -(-FEWEST // classes)
    return np.repeat(np.arange(min(classes, MOST)), each)


def measure(prepared: Prepared[Adaptation], draws: Sequence[int]) -> Pace:
    """Times each part at least twice, on dummy latents under a throw-away key.

    Args:
        prepared: With its microbatch decided.
        draws: Numbers of draws to time; of two, what grows with them is told from what does not.

    Returns:
        The pace.
    """
    key = RunKey.generate()
    found = {k: _of_unit(prepared, key, k) for k in sorted(set(draws))}
    (low, first), (high, last) = min(found.items()), max(found.items())
    draw = (last - first) / (high - low) if high > low else first / low
    # a machine that slows down meanwhile must not make draws free, nor units cost less than nothing
    draw = min(max(draw, 0.2 * first / low), first / low)
    step, checkpoint = _of_step(prepared, key)
    # None: not decided before there is a schedule
    sheet = 0.0 if prepared.performance.samples_every == 0 else _of_sheet(prepared)
    return Pace(first - low * draw, draw, step, checkpoint, sheet)


def _quicker(work: Callable[[], object]) -> float:
    """Seconds of the quickest of two runs or more; the first also warms up.

    What else the machine does meanwhile only ever makes a run slower: short ones are repeated.
    """
    seconds: list[float] = []
    clock = wall_clock()
    while len(seconds) < 2 or (sum(seconds) < REPEATED and len(seconds) < 6):
        started = clock()
        work()
        seconds.append(clock() - started)
    return min(seconds)


def _of_unit(prepared: Prepared[Adaptation], key: RunKey, draws: int) -> float:
    """Seconds of a unit with so many draws: its random numbers, passes, clip and sum."""
    plan, adaptation, recipe = prepared.plan, prepared.adaptation, prepared.recipe
    assert prepared.performance.micro_batch is not None
    rows = prepared.performance.micro_batch * plan.noise_draws  # as many in one pass as a run's
    units = max(1, min(rows // draws, round(plan.expected_batch_size)))
    mean = np.random.default_rng(0).standard_normal((units, *prepared.base.latent_shape))
    own, data = np.arange(units), mean.astype(np.float16)
    label = own % len(plan.classes)
    texts = made_up_texts(prepared.base, units) if plan.captions else None
    latents = LatentData(data, np.full_like(data, 0.1), label, own, np.arange(units + 1), texts)
    how = (recipe.time_bias, recipe.caption_dropout, prepared.base.times)
    batch = UnitBatch(latents, own, key, 0, 0, draws, *how)
    clip, groups = clip_and_groups(prepared)
    one_pass = prepared.performance.engine == "one-pass"
    # what was written down is for the plan's own draws
    ways = prepared.options.get("ways") if draws == plan.noise_draws else None
    with open_engine(adaptation, groups, ways, one_pass=one_pass) as engine:

        def work() -> None:
            engine.clipped_sum(
                adaptation.row_losses,
                batch,
                draws=draws,
                clip=clip.factors,
                micro_batch=units if one_pass else 1,
                rounding=plan.rounding,
            )

        return _quicker(work) / units


def clip_and_groups(prepared: Prepared[Adaptation]) -> tuple[Clip, list | None]:
    """The plan's clip for what trains now, and its groups of tensors."""
    plan = prepared.plan
    groups = None if plan.clip_groups is None else list(prepared.adaptation.clip_groups.values())
    clip = plan.clip()
    # a probe will choose among them: the same bound, shared by all
    if groups is not None and len(groups) != plan.clip_groups:
        clip = per_group(equal_shares(plan.clip_norm, len(groups)), plan.gamma)
    return clip, groups


def _of_step(prepared: Prepared[Adaptation], key: RunKey) -> tuple[float, float]:
    """Seconds of a step without units, and of a checkpoint; on numbers that are no weights."""
    plan = prepared.plan
    assert plan.rounding is not None  # plans of today have a grid
    bound, count = plan.rounding.bound, min(plan.trainable, MOST_NUMBERS)
    where = device()
    numbers = {"dummy": nn.Parameter(torch.zeros(count, device=where))}
    state = State(numbers, {}, Recipe(learning_rate=1e-3))

    def step() -> None:
        sums = {"dummy": torch.zeros(count, dtype=torch.int64, device=where)}
        noise = add_integer_noise(sums, key, 0, 0, multiplier=plan.noise_multiplier, bound=bound)
        numbers["dummy"].grad = noise["dummy"].float()
        state.optimizer.step()
        state.step += 1
        state.update_average(0.9)

    share = plan.trainable / count
    taken = _quicker(step) * share
    with tempfile.TemporaryDirectory() as folder:

        def keep() -> None:
            write_checkpoint(Path(folder), state, 0, "dummy", "dummy")

        return taken, _quicker(keep) * share


def _of_sheet(prepared: Prepared[Adaptation]) -> float:
    """Seconds of one row of pictures with the base as it is."""
    plan, base = prepared.plan, prepared.base
    labels = shown_classes(len(plan.classes))
    text = prepared.adaptation.conditions(len(plan.classes))
    sampler = Sampler(base, plan.prompts, Sampling(), text)
    return _quicker(lambda: sampler.draw(labels, np.arange(len(labels))))
