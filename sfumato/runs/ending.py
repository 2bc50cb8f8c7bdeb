"""A run that its owner ends before the planned last step."""

from __future__ import annotations

from typing import Any

from ..errors import SfumatoError
from ..methods import Prepared
from ..privacy.ledger.notes import ModelMade, Stopped
from ..records import RecordSet
from .execute import own_checkpoint, save_model
from .folder import Run


def finish_run(run: Run, prepared: Prepared[Any], records: RecordSet) -> Run:
    """Makes what the last checkpoint holds the run's model; the whole charge stays.

    When to stop may follow from what the noised steps showed: that is post-processing of an
    adaptively composed mechanism whose every planned step is paid for. The note comes first: from
    then on the run trains no more, and its certificates state the step.

    Args:
        run: Stopped at a step boundary, or died.
        prepared: Its base and method again.
        records: Its private images; only a class histogram that was paid for is made of them.

    Returns:
        The run, with its model.

    Raises:
        SfumatoError: There is no checkpoint, none that the ledger knows, or all steps are done.
    """
    step, tensors = own_checkpoint(run, records)
    if tensors is None or step == 0:
        raise SfumatoError("there is no checkpoint to finish at: go on with --resume")
    before = run.ledger.entries(Stopped)
    if step == run.plan.steps and not before:
        raise SfumatoError("all steps of this run are done: --resume finishes it")
    if before and before[-1].stopped != step:
        raise SfumatoError(
            f"the run was stopped at step {before[-1].stopped}, and its checkpoint is gone: put it"
            " back"
        )
    attempt = run.ledger.attempts - 1
    # Else every later certificate of that model would say that it was stopped.
    if not before and any(made.attempt == attempt for made in run.ledger.entries(ModelMade)):
        raise SfumatoError(
            "the ledger knows a finished model of this attempt: put run/model back, or use"
            " --new-attempt"
        )
    left = prepared.method.at_checkpoint(prepared, tensors, step)
    if not before:
        run.record(Stopped(stopped=step, attempt=attempt))
    prepared.method.clear(run.folder)
    save_model(run, left, records, attempt)
    return run
