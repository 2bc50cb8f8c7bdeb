"""`resume`: a run goes on from its last checkpoint, under the plan that it began with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ..compute import fingerprint, ranks
from ..compute.device import using
from ..errors import SfumatoError
from ..methods import METHODS
from ..methods.shared import share_base
from ..options import Execution, Machine, Options, Reading, Values, gather, takes
from ..options.progress import listening
from ..planning.inputs import (
    Source,
    as_planned,
    records_of,
    unlabelled_if_flat,
)
from ..privacy.plan import Plan
from ..records import RecordSet
from ..runs import budget
from ..runs.alike import require_alike_device, require_alike_images, require_alike_start
from ..runs.ending import finish_run
from ..runs.execute import continue_run, device_of, train_run
from ..runs.folder import Run
from ..runs.lock import one_writer, resumable
from ..runs.prepared import rebuild
from ..runs.reading import remembered
from ..training import Progress
from .chosen import chosen
from .keywords import ResumeOptions

OF_A_RESUME: dict[str, type[Options]] = {
    "reading": Reading,
    "execution": Execution,
    "machine": Machine,
}


def nothing(*_: object) -> None:
    """For whom nobody listens."""


@takes(**OF_A_RESUME)
def resume(
    images: Source,
    output: str | Path,
    *,
    new_attempt: bool = False,
    finish_here: bool = False,
    ledger: str | Path | None = None,
    allow_file_system: bool = False,
    progress: Callable[[Progress, Plan], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
    **options: Unpack[ResumeOptions],
) -> Run:
    """Continue the run in `output` from its last checkpoint.

    A free replay of the same random draws if data, code, versions and checkpoint are the same;
    otherwise it is refused. After shards, the last call without one adds up.

    Args:
        images: The run's own private images.
        output: The run folder.
        new_attempt: Pay for fresh draws from the plan's retry reserve (`retry_fraction`).
        finish_here: Train no more: the last checkpoint becomes the run's model. The whole charge
            stays, and certificates state the step.
        ledger: Where the run's ledger is, if it was moved.
        allow_file_system: As for `adapt`.
        progress: As for `adapt`.
        on_stage: As for `adapt`.
        options: Fields of `Reading`, `Execution` and `Machine`, or whole objects. Without a device
            the run goes on where it was; another one is a new attempt.

    Returns:
        The run.

    Raises:
        SfumatoError: A finished run, other images, a replay that would not be the same.
        Interrupted: It was stopped again.
    """
    how = (new_attempt, finish_here)
    return go_on(images, output, ledger, allow_file_system, how, progress, on_stage, options)


def go_on(
    images: Source,
    output: str | Path,
    ledger: str | Path | None,
    allow_file_system: bool,
    how: tuple[bool, bool],
    progress: Callable[[Progress, Plan], None] | None,
    on_stage: Callable[[str], None] | None,
    options: Mapping[str, Any],
) -> Run:
    """`resume`, and `adapt` with it.

    Args:
        images: As there.
        output: As there.
        ledger: As there.
        allow_file_system: As there.
        how: Whether it is a new attempt, and whether it finishes here.
        progress: As there.
        on_stage: As there.
        options: As there.

    Returns:
        The run.

    Raises:
        SfumatoError: As there.
        Interrupted: As there.
    """
    progress, on_stage = progress or nothing, on_stage or nothing
    new_attempt, finish_here = how
    if new_attempt and finish_here:
        raise SfumatoError("--new-attempt trains on and --finish-here does not: give one of them")
    found = gather(OF_A_RESUME, options, ("new_attempt", "finish_here", "ledger"))
    reading: Reading = found["reading"]
    read_before = isinstance(images, RecordSet)
    if reading == Reading() and not read_before:  # nothing was said: as it was
        reading = remembered(Path(output)).reading
    execution: Execution = found["execution"]
    machine: Machine = found["machine"]
    ranks.start()
    require_alike_start("resume", [repr(how), repr(reading), repr(execution), repr(machine)])
    if allow_file_system:
        place = ledger or budget.ledger_of_run(output)
        ranks.on_first_rank(lambda: budget.open_ledger(place, allow_file_system=True).close())
    run = ranks.on_first_rank(lambda: Run.open(output, ledger))
    if (run.folder / "model").exists():
        raise SfumatoError(
            f"{run.folder} is already finished: synthesize from it, or adapt into a new folder"
        )
    method = METHODS[run.plan.method]
    method.check_execution(execution)
    if finish_here and not method.takes_steps:
        raise SfumatoError(
            f"--finish-here: --method {method.name} trains no model that an earlier step could"
            " leave: go on with --resume"
        )
    reading = unlabelled_if_flat(images, reading, method)
    device = machine.device
    if machine == Machine():  # nothing was said: where it was
        device = ranks.on_first_rank(lambda: device_of(run)) or device
    with using(device), resumable():
        asked = (reading, read_before, execution)
        return _continue(run, images, asked, how, progress, on_stage)


def _continue(
    run: Run,
    images: Source,
    asked: tuple[Reading, bool, Execution],
    how: tuple[bool, bool],
    progress: Callable[[Progress, Plan], None],
    on_stage: Callable[[str], None],
) -> Run:
    """The same run further, on the device that is in use."""
    (reading, read_before, execution), (new_attempt, finish_here) = asked, how
    ranks.start(lambda: fingerprint.of_rank(run.options["performance"].get("threads")))
    require_alike_device()
    on_stage("reading the images")
    with listening(on_stage):
        read_as = as_planned(reading, run.plan, Values.kept(run.options))
        if read_before:  # the run's digest alone says whether they are its own
            read_as = replace(read_as, classes=reading.classes)
        records = records_of(images, read_as)
    require_alike_images(records)
    known = ranks.on_first_rank(
        lambda: budget.standing(run.ledger.ledger, records.fingerprints, **records.marks)
    )
    records = records.rearranged(known.order)
    with one_writer(run, execution.shard):
        # Inside, so that a probe, or a base, recorded by the process before us is seen.
        if run.undecided:
            run = ranks.on_first_rank(lambda: Run.open(run.folder, run.ledger_path))
        if run.undecided:
            if finish_here:
                raise SfumatoError(
                    "--finish-here: the run has not chosen its base yet, so there is nothing to"
                    " finish: go on with --resume"
                )
            start = ranks.on_first_rank(lambda: continue_run(run, records, new_attempt))
            run, prepared = chosen(run, records, start, on_stage)
            return train_run(run, prepared, records, start, execution, progress, on_stage)
        selected = ranks.on_first_rank(lambda: run.selected)
        own = run.plan, run.options, selected, run.start
        if finish_here:
            return ranks.on_first_rank(lambda: finish_run(run, rebuild(*own), records))
        prepared = share_base(rebuild(*own, to_share=True))
        prepared.method.check(prepared, on_stage)
        start = ranks.on_first_rank(lambda: continue_run(run, records, new_attempt))
        return train_run(run, prepared, records, start, execution, progress, on_stage)
