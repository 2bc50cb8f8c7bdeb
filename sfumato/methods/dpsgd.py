"""DP-SGD around any adaptation (Abadi et al., arXiv 1607.00133).

Time and memory beforehand, and the steps with their checkpoints.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace

import torch

from ..compute import ranks
from ..compute.clocks import work_clock
from ..compute.device import device, held_bytes, is_host
from ..compute.measure import measures
from ..compute.memory import out_of_memory, peak_bytes
from ..compute.remembered import remembered
from ..compute.shares import is_shared
from ..errors import Interrupted, SfumatoError
from ..gradients import Engine, Ratios, fitting_records, measure_ratios
from ..options import Performance, Schedule
from ..privacy.clipping import flat
from ..privacy.plan import Plan
from ..training import KEEP, Progress, State, lean, open_engine, train
from ..training.dummy import dummy_batch
from .adaptation import Adaptation
from .interface import Prepared, Timed, Work
from .pace import Pace, clip_and_groups, default_samples_every, measure, sample_steps
from .room import alone, budget, measuring, require_room
from .shared import whole_again
from .timed import Wanted, solve
from .workspace import Workspace

# Rows in one pass beyond which a CPU gains a tenth at most, and the demo would not stay under 3 GB.
MOST_ROWS = 256
# What a device says, or the connection to another rank.
DEVICE_FAILED = r"CUDA error|.*DefaultCPUAllocator|.*([Cc]onnection (closed|reset)|gloo|NCCL)"


def one_pass(prepared: Prepared[Adaptation], rows: int) -> Callable[[], object]:
    """The clipped sum of dummy units, about so many rows in all, as training makes it."""
    plan, adaptation = prepared.plan, prepared.adaptation
    batch = dummy_batch(prepared, max(1, rows // plan.noise_draws))
    clip, groups = clip_and_groups(prepared)
    one_pass = prepared.performance.engine == "one-pass"
    ways = prepared.options.get("ways")

    def work() -> None:
        with open_engine(adaptation, groups, ways, one_pass=one_pass) as engine:
            engine.clipped_sum(
                adaptation.row_losses,
                batch,
                draws=plan.noise_draws,
                clip=clip.factors,
                rounding=plan.rounding,
            )

    return work


def fit_to_memory(prepared: Prepared[Adaptation]) -> Prepared[Adaptation]:
    """The same with the microbatch decided by the memory budget, and the engine's strategies noted.

    Both follow from the model and public settings. A microbatch that was asked for stays; the
    reference engine takes one unit at a time. SfumatoError for a layer that the engine has no rule
    for, and for several units in a pass that takes one.
    """
    plan, adaptation, performance = prepared.plan, prepared.adaptation, prepared.performance
    units = performance.micro_batch
    if performance.engine == "one-pass" and (reason := alone(prepared.base)):
        if units not in (None, 1):
            raise SfumatoError(
                f"--micro-batch-size {units}: {reason}, so training takes one unit at a time: leave"
                " it out"
            )
        units = 1
    with _engine(prepared) as engine:
        if performance.engine != "one-pass":
            units = units or 1
        elif units is None:
            # A Poisson draw seldom exceeds its mean by a quarter; when it does, it is cut up.
            most = max(1, round(1.25 * plan.expected_batch_size))
            if is_host(adaptation.base.device):
                most = max(1, min(MOST_ROWS // plan.noise_draws, most))
            where, asked = adaptation.base.device, performance.memory_budget
            room = budget(asked, where, adaptation.most_trainable)
            with measuring():
                found = fitting_records(
                    engine,
                    adaptation.row_losses,
                    lambda records: dummy_batch(prepared, records),
                    plan.noise_draws,
                    room,
                    most,
                    _peak_of_ranks,
                )
            units = require_room(*found, asked, where, room)
        else:
            with measuring():
                engine.clipped_sum(
                    adaptation.row_losses,
                    dummy_batch(prepared, 1),
                    draws=plan.noise_draws,
                    clip=flat(1.0).factors,
                )
        ways = dict(engine.strategies)
    strategies = dict(sorted(Counter(ways.values()).items()))
    performance = replace(performance, micro_batch=units)
    noted = {"performance": asdict(performance), "strategies": strategies, "ways": ways}
    options = prepared.options | noted
    return replace(prepared, performance=performance, options=options)


def ratios_here() -> Ratios:
    """The engine's constants on this machine: measured once for its user, on the first rank."""
    if not measures():
        return Ratios()
    names = [field.name for field in fields(Ratios)]

    def found() -> dict[str, float]:
        return remembered("engine", names, lambda: asdict(measure_ratios(device(), work_clock())))

    kept = ranks.on_first_rank(found)
    return Ratios(kept["linear"], kept["conv"], int(kept["small"]))


def _peak_of_ranks(work: Callable[[], object], where: torch.device) -> int:
    """The largest of all ranks' peaks, so that they decide alike."""
    return ranks.largest(peak_bytes(work, where))


def _engine(prepared: Prepared[Adaptation]) -> Engine:
    try:
        model, trainable = prepared.adaptation.model, prepared.adaptation.trainable
        if kept := prepared.options.get("ways"):
            return Engine(model, trainable, strategy=kept)
        return Engine(model, trainable, ratios=ratios_here())
    except ValueError as error:
        raise SfumatoError(f"this base cannot be adapted by this method: {error}") from error


def estimate(prepared: Prepared[Adaptation], further_draws: float = 0.0) -> Work:
    """Measures the parts of a run on dummy latents and multiplies by the plan.

    Args:
        prepared: With its microbatch decided.
        further_draws: Draws of units beside those of the steps.
    """
    plan, how, timed = prepared.plan, prepared.performance, prepared.timed
    # one measurement for both, or a plan would not take the time that it was solved for
    pace = measure(prepared, (plan.noise_draws,)) if timed is None else timed.pace
    every, shown = how.checkpoint_steps, how.samples_every
    steps = pace.seconds(plan.expected_batch_size, plan.noise_draws, plan.steps, every, shown)
    copies = 8 * 4 * plan.trainable  # weights, moments, average, sum, noise
    if shown:
        copies += prepared.base.info.held  # the second base, which draws the samples
    held = held_bytes(prepared.base.device)
    return Work(float(steps + further_draws * pace.draw), int(held + copies))


def general_pace(prepared: Prepared[Adaptation]) -> Pace:
    """The pace of any schedule with these options here; its microbatch is decided."""
    return measure(replace(prepared, performance=_samples_open(prepared)), (1, 4))


def _samples_open(prepared: Prepared[Adaptation]) -> Performance:
    """The same without samples that nobody asked for, which follow the schedule."""
    how = prepared.performance
    own = default_samples_every(how, _usual(prepared.plan), len(prepared.plan.classes))
    return replace(how, samples_every=None) if how.samples_every == own else how


def _usual(plan: Plan) -> Schedule:
    return Schedule(round(plan.expected_batch_size), plan.steps, plan.noise_draws)


def in_time(
    prepared: Prepared[Adaptation],
    timed: Timed,
    seconds: float,
    asked: Schedule,
    further_draws: float = 0.0,
) -> Schedule:
    """The schedule that takes about so long here.

    Args:
        prepared: With its microbatch decided, and the schedule that it has without a time.
        timed: Its pace (`general_pace`), and what no schedule changes.
        seconds: The whole run's.
        asked: What the user fixed of the schedule.
        further_draws: Draws of units beside those of the steps.
    """
    plan, pace = prepared.plan, timed.pace
    fixed = timed.fixed + further_draws * pace.draw
    want = Wanted(
        seconds,
        fixed,
        plan.method,
        asked,
        _usual(plan),
        plan.n_units,
        plan.epsilon_target,
        len(plan.classes),
    )
    return solve(pace, want, _samples_open(prepared))


def checkpoint_bytes(adaptation: Adaptation) -> int:
    """Bytes of the checkpoints that a run keeps at most, and of one that is being written."""
    return (KEEP + 1) * sum(4 * 4 * p.numel() for p in adaptation.trainable.values())


def fit(prepared: Prepared[Adaptation], workspace: Workspace) -> Adaptation:
    """Trains to the plan's last step, from the attempt's checkpoint on.

    `save` then writes the averaged weights.

    Raises:
        Interrupted: Somebody stopped it, or the device failed.
    """
    plan, adaptation = prepared.plan, prepared.adaptation
    every = prepared.performance.checkpoint_steps
    samples = sample_steps(prepared.performance.samples_every, plan.steps)
    state = State(adaptation.trainable, adaptation.learning_rate_factor, prepared.recipe)
    if workspace.checkpoint is not None:
        facts, tensors = workspace.checkpoint
        state.restore(tensors, facts["step"])

    def start_interval() -> int:
        return ranks.on_first_rank(lambda: workspace.begin(state.step))

    def on_step(now: Progress, state: State) -> bool:
        nonlocal end
        stopping, shown = ranks.any_rank(stop.asked), now.step in samples
        due = now.step % every == 0 or stopping or now.step == plan.steps or shown
        # where ranks share tensors, all of them put them together
        tensors = state.tensors() if due and (state.shares or ranks.rank() == 0) else {}
        if ranks.rank() == 0:
            workspace.log(now)
            if due:
                workspace.keep(state, tensors)
            if shown:
                workspace.show(now.step)
            workspace.progress(now)
        if now.step == end and not stopping and now.step < plan.steps:
            end = start_interval()
        return not stopping

    if not is_host(adaptation.base.device):
        adaptation.base.park(prompts=not adaptation.reads_prompts)
    if not adaptation.reads_prompts:
        adaptation.base.drop_encoders()
    workspace.on_stage("training")
    end = start_interval() if state.step < plan.steps else state.step
    with workspace.stoppable() as stop, _device_errors(state, plan), _lean(prepared):
        finished = train(
            plan,
            adaptation,
            workspace.data,
            workspace.key,
            attempt=workspace.attempt,
            recipe=prepared.recipe,
            performance=prepared.performance,
            ways=prepared.options.get("ways"),
            state=state,
            on_step=on_step,
        )
    if not finished:
        raise Interrupted(f"stopped at step {state.step} of {plan.steps}; continue with --resume")
    workspace.on_stage("saving")
    if prepared.performance.shard_base:
        return whole_again(prepared, state)
    state.use_average()
    return adaptation


def _lean(prepared: Prepared[Adaptation]) -> contextlib.AbstractContextManager[None]:
    """On a GPU frozen weights in the format of the products; on the host as they are."""
    adaptation = prepared.adaptation
    base = adaptation.base
    # what ranks share has a format of its own while it is gathered
    shared = any(is_shared(p) for p in base.denoiser.parameters())
    if is_host(base.device) or shared:
        return contextlib.nullcontext()
    return lean(base.denoiser, list(adaptation.trainable.values()), base.formats.train)


@contextlib.contextmanager
def _device_errors(state: State, plan: Plan) -> Iterator[None]:
    """Ends the attempt on device errors, out of memory included.

    No batch is cut, drawn again or left out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = out_of_memory(error) or type(error).__name__ == "AcceleratorError"
        if not known and not re.match(DEVICE_FAILED, str(error)):
            raise
        raise Interrupted(
            f"the device failed in step {state.step + 1} of {plan.steps}; continue with --resume,"
            " and if it was memory after making room for it"
        ) from error
