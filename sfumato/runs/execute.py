"""The pieces of `adapt`: charge, encode, train, save; and how an interrupted run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from ..bases import caption_base
from ..compute import fingerprint, ranks
from ..compute.allocator import keep_memory
from ..compute.threads import use_threads
from ..errors import DataError, LedgerFault, MachineError, SfumatoError
from ..methods import METHODS, Prepared
from ..methods.adaptation import Adapted
from ..options import Execution
from ..options.progress import Counted
from ..privacy.files import lock
from ..privacy.ledger.entries import Attempt, Charged, Released, Replayed
from ..privacy.ledger.notes import CheckpointMade, Shown, Stopped
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import noisy_histogram
from ..records import RecordSet
from ..releases import CertificateFacts
from ..training import (
    Progress,
    build_latents,
    latest_checkpoint,
    open_latents,
    write_file,
    write_texts,
)
from ..training.buckets import Buckets, nearest_bucket
from ..training.texts import INDEX
from . import budget
from .attempts import frozen_contents, reached, seal_model
from .folder import Run
from .lock import resumable, unless_charged
from .preflight import preflight
from .progress_page import shown
from .samples import Samples
from .workspace import RunWorkspace


@dataclass(frozen=True)
class Start:
    """The start of an attempt: its number, its draws' salt, and its checkpoint (facts, tensors)."""

    attempt: int
    salt: str
    checkpoint: tuple[Any, ...] | None = None


def open_run(
    output: Path,
    prepared: Prepared[Any],
    records: RecordSet,
    ledger: str | Path,
    facts_of: Callable[[Run, RecordSet], CertificateFacts],
    on_stage: Callable[[str], None],
    private: Mapping[str, bytes] | None = None,
) -> Start:
    """A new run folder, tried, charged and begun; refused before the charge, it leaves no folder.

    Args:
        output: The folder.
        prepared: Plan, options and adaptation.
        records: The private images.
        ledger: Path of the owner's ledger.
        facts_of: `facts_of(run, records)`: what the certificate will be built from.
        on_stage: Called with a line for every stage.
        private: As in `Run.create`.
    """
    book = budget.open_ledger(ledger)
    run = Run.create(output, prepared.plan, prepared.options, book, prepared.start, private)
    with unless_charged(run):
        preflight(run, prepared, records.n, facts_of(run, records), on_stage)
        # Charge before read: a crash after this line is spent, whatever the pixels were.
        run.charge(records, prepared.public_inputs, prepared.ancestors)
    with resumable():
        return Start(0, run.begin(records, 0))


def train_run(
    run: Run,
    prepared: Prepared[Any],
    records: RecordSet,
    start: Start,
    execution: Execution,
    tell: Callable[[Progress, Plan], None],
    on_stage: Callable[[str], None],
) -> Run:
    """Encode, let the method learn, and save.

    Args:
        run: Charged and begun.
        prepared: Its base and method.
        records: Its private images.
        start: Where the attempt begins.
        execution: What is to be done now.
        tell: Takes where training stands after every step, and the plan.
        on_stage: Takes a line for every stage.

    Returns:
        The run; without a model where there is more to do, after one of several shards.
    """
    if ranks.rank() != 0:
        with resumable():
            return _train(run, prepared, records, start, execution, (tell, on_stage))
    with shown(run, tell, on_stage) as told, resumable():
        return _train(run, prepared, records, start, execution, told)


def _train(
    run: Run,
    prepared: Prepared[Any],
    records: RecordSet,
    start: Start,
    execution: Execution,
    told: tuple[Callable[[Progress, Plan], None], Callable[[str], None]],
) -> Run:
    """The same, with the run's page told as well."""
    tell, on_stage = told
    keep_memory()
    use_threads(prepared.performance.threads)
    ranks.on_first_rank(run.require_charge)
    ranks.on_first_rank(lambda: _encode(run, prepared, records, on_stage))
    workspace = RunWorkspace(
        data=open_latents(run.folder / "cache"),
        order=records.reading_order,
        key=run.key.for_attempt(start.salt),
        attempt=start.attempt,
        folder=run.folder,
        execution=execution,
        checkpoint=start.checkpoint,
        selected=ranks.on_first_rank(lambda: run.selected),
        moments=ranks.on_first_rank(lambda: run.moments),
        on_stage=on_stage,
        run=run,
        tell=tell,
        samples=Samples(run, start.attempt, on_stage),
    )
    learnt = prepared.method.fit(prepared, workspace)
    if learnt is not None:
        ranks.on_first_rank(lambda: save_model(run, learnt, records, start.attempt))
    return run


def _encode(
    run: Run, prepared: Prepared[Any], records: RecordSet, on_stage: Callable[[str], None]
) -> None:
    with open(run.folder / "cache.lock", "a+") as turn:
        # of shards that start together one encodes, and the others wait
        lock(turn)
        # earlier versions kept captions in a form of their own: they are read again
        kept = prepared.plan.captions is None or (run.folder / "cache" / INDEX).exists()
        if not (kept and (run.folder / "cache" / "done").exists()):
            _write_cache(run.folder / "cache", prepared, records, on_stage)


def _write_cache(
    cache: Path, prepared: Prepared[Any], records: RecordSet, on_stage: Callable[[str], None]
) -> None:
    on_stage("encoding the images")
    # one that is written anew is whole again at the end alone
    (cache / "done").unlink(missing_ok=True)
    lost = done = read = 0

    def encoded(more: int) -> None:
        nonlocal done
        done += more
        on_stage(Counted("encoding the images", done, records.n))

    def told(more: int) -> None:
        nonlocal read
        read += more
        if read % 64 == 0 or read == records.n:
            on_stage(Counted("reading the captions", read, records.n))

    sizes, buckets = prepared.base.sizes, None
    of_slot = np.zeros(records.n, np.int64)
    if prepared.base.buckets:
        of_slot = nearest_bucket(records.sizes(), sizes)
        buckets = Buckets.of(prepared.base.latent_shapes, of_slot, records.unit)

    def images(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal lost
        found, good = records.load(slots, sizes[of_slot[slots[0]]])
        lost += int((records.usable[slots] & ~good).sum())
        return found, good

    if prepared.plan.captions:
        tell = caption_base(prepared.base).condition_of_captions
        write_texts(cache, records.captions or (), tell, told)
        if not prepared.adaptation.reads_prompts:
            prepared.base.drop_encoders()
    build_latents(
        cache,
        records.n,
        images,
        prepared.base.encode,
        np.where(records.usable, records.labels, -1),
        records.unit,
        order=records.reading_order,
        progress=encoded,
        buckets=buckets,
    )
    if lost:
        on_stage(
            f"note: {lost} images changed or vanished since they were indexed: zero slots, as"
            " unreadable ones are"
        )
    write_file(cache / "done", b"")


def save_model(run: Run, learnt: Adapted, records: RecordSet, attempt: int) -> None:
    """Writes what was learnt, with a histogram that is paid for, and seals it in the ledger."""
    plan, key, temporary = run.plan, run.key, run.folder / "model.part"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        # before saving, which may merge adapters into the base
        public = frozen_contents(learnt)
        learnt.save(temporary)
        if plan.histogram_noise_multiplier is not None:
            counts = noisy_class_counts(records, plan, key)
            write_file(temporary / "class_counts.json", json.dumps(counts.tolist()).encode())
        seal_model(run, temporary, attempt, public)
        temporary.rename(run.folder / "model")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MachineError(
            f"cannot write the model ({reason}): free some space and --resume"
        ) from error


def noisy_class_counts(records: RecordSet, plan: Plan, key: RunKey) -> np.ndarray:
    """The histogram that the plan pays for: bounded class counts with noise, float64 [classes].

    One release per key.
    """
    assert plan.histogram_noise_multiplier is not None
    counts = bounded_counts(records, plan)
    return noisy_histogram(
        counts, plan.histogram_noise_multiplier, key, max_per_unit=plan.max_per_unit
    )


def bounded_counts(records: RecordSet, plan: Plan) -> np.ndarray:
    """Class counts with at most plan.max_per_unit images of each unit.

    The histogram's sensitivity was priced for that.
    """
    use = np.flatnonzero(records.usable & (records.labels >= 0))
    order = use[np.argsort(records.unit[use], kind="stable")]
    unit = records.unit[order]
    place = np.arange(len(order)) - np.searchsorted(unit, unit)
    return np.bincount(
        records.labels[order[place < plan.max_per_unit]], minlength=len(plan.classes)
    )


def own_checkpoint(run: Run, records: RecordSet) -> tuple[int, dict[str, torch.Tensor] | None]:
    """The newest checkpoint's step and tensors, if the ledger knows it as this run's; or (0, None).

    SfumatoError for another run's files or other images, and for a run that was never charged.
    """
    ledger = run.ledger
    charges = ledger.entries(Charged)
    if not charges:
        raise LedgerFault("the run was never charged: adapt into a new folder")
    if charges[0].data not in [run.data_digest(records, before) for before in (False, True)]:
        raise DataError("the private images are not those of the run: resume with the same data")
    found = latest_checkpoint(run.folder / "checkpoints")
    if found is None:
        return 0, None
    facts, tensors = found
    if facts["plan"] != run.plan.digest or facts["key_id"] != run.key.id:
        raise SfumatoError(
            "the checkpoint belongs to another run: put the run's own checkpoints back"
        )
    step = facts["step"]
    noted = [made.sha256 for made in ledger.entries(CheckpointMade) if made.checkpoint == step]
    if facts["sha256"] not in noted[-1:]:
        raise LedgerFault(
            "the newest checkpoint is not the one that the ledger knows: put the run's own back"
        )
    return step, tensors


def device_of(run: Run) -> str | None:
    """The kind of device that the run's last attempt computes on; None before the first one."""
    attempts = run.ledger.entries(Attempt)
    return fingerprint.kind_of(attempts[-1].fingerprint) if attempts else None


def continue_run(run: Run, records: RecordSet, new_attempt: bool) -> Start:
    """Where to go on; bills the retry reserve or records a free replay."""
    ledger, method = run.ledger, METHODS[run.plan.method]
    seen = len(ledger.rows)
    method.require_resumable(run.plan)
    attempts = ledger.entries(Attempt)
    step, tensors = own_checkpoint(run, records)
    if not attempts:
        # it died between charge and start: no pixel was read
        return Start(0, run.begin(records, 0))
    last, number = attempts[-1], len(attempts) - 1
    found = None if tensors is None else ({"step": step}, tensors)
    if stopped := ledger.entries(Stopped):
        raise SfumatoError(
            f"the owner stopped this run at step {stopped[-1].stopped}, so it trains no more:"
            " finish it with --finish-here"
        )
    if not new_attempt:
        seen_steps = [note.shown for note in ledger.entries(Shown) if note.attempt == number]
        if max(seen_steps, default=0) > step:
            raise SfumatoError(
                f"samples of step {max(seen_steps)} were seen, and its checkpoint is gone: a free"
                " replay would make that step again; put the checkpoint back, or use --new-attempt"
            )
        if step < last.from_step:
            raise SfumatoError(
                "the checkpoint that this attempt started from is gone, so its draws cannot be"
                " repeated; use --new-attempt"
            )
        now, then = run.fingerprint, last.fingerprint
        # What an older version did not record counts as changed: whether it is, is unknown.
        if changed := [
            name for name in {**then, **now} if name not in then or now.get(name) != then[name]
        ]:
            raise SfumatoError(
                f"a free replay needs the same {', '.join(changed)} as when the run started; "
                "--new-attempt continues with fresh noise, paid from the plan's retry reserve"
            )
        if run.data_digest(records) != last.data:  # a paid attempt may have taken other grey levels
            raise DataError(
                "a free replay needs the private images as they were when the attempt started, grey"
                " levels included; --new-attempt continues with fresh noise, paid from the plan's"
                " retry reserve"
            )
        if ledger.entries(Released):
            raise SfumatoError(
                "something of this run was released already: a replay is not free; use"
                " --new-attempt"
            )
        run.record(Replayed(attempt=number, from_step=step))
        return Start(number, last.salt, found)
    method.require_retry(run.plan, run.selected, run.moments)
    if run.undecided:
        raise SfumatoError(
            "the run stopped before its base was chosen, and the retry reserve pays for training"
            " only: --resume without --new-attempt, or adapt into a new folder"
        )
    # All that the last attempt may have run after the checkpoint we go on from is billed again.
    billed = max(reached(run, number) - step, 0)
    attempt = number + 1
    return Start(
        attempt, run.begin(records, attempt, from_step=step, billed=billed, seen=seen), found
    )
