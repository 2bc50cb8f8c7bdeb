"""The pieces of `adapt`: charge, encode, train, save; and how an interrupted run goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from ..compute import ranks
from ..compute.allocator import keep_memory
from ..compute.device import use_threads
from ..errors import DataError, Interrupted, LedgerFault, MachineError, ModelError, SfumatoError
from ..gradients import Engine, ReferenceEngine, self_check
from ..methods.inversion.controls import EXACT
from ..privacy.clipping import equal_shares, per_group
from ..privacy.files import lock
from ..privacy.ledger.entries import Attempt, Charged, Released, Replayed
from ..privacy.ledger.notes import CheckpointMade
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import noisy_histogram
from ..training import (
    Progress,
    State,
    build_latents,
    latest_checkpoint,
    open_latents,
    require_grid,
    train,
    write_checkpoint,
    write_file,
)
from ..training.dummy import made_up_batch
from . import budget
from .attempts import begin_interval, frozen_contents, note_state, note_weights, reached, seal_model
from .folder import Run
from .inversion import CONTROLS, Work, check_isolation, invert
from .lock import StopFlag
from .preflight import preflight
from .prepared import Prepared
from .probe import check_scores, choose_matrices

# Records that a machine is asked about where the run's passes are shorter.
FEWEST = 3


def check_gradients(prepared: Prepared, on_stage) -> None:
    """The engine against one-at-a-time autograd on made-up pictures, before the charge
    (L18, L19).
    """
    adaptation = prepared.adaptation
    if adaptation.inversion is not None:
        check_isolation(prepared, on_stage)
        return
    on_stage("checking the gradients on made-up pictures")
    try:
        dead = self_check(
            adaptation.model,
            adaptation.trainable,
            adaptation.exact_losses,
            made_up_batch(prepared, 2),
            prepared.plan.noise_draws,
            groups=(
                None if prepared.plan.clip_groups is None else list(adaptation.clip_groups.values())
            ),
        )
        check_neighbours(prepared)
        if prepared.plan.probe is not None:
            check_scores(prepared)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"this base cannot be adapted by this method: {error}") from error
    if dead:
        raise ModelError(
            f"{dead[0]} never gets a gradient ({len(dead)} such): noise would be all that it learns"
        )


def check_neighbours(prepared: Prepared) -> None:
    """Ask this machine, with made-up records in the run's own micro-batch, what the proof of the
    sums takes from torch's kernels.

    Taking out the first, the middle or the last record must leave every other record's gradient
    norm as it is, bit by bit, and move the integer sum by its bound at most. RuntimeError if it
    does not.
    """
    plan, adaptation = prepared.plan, prepared.adaptation
    groups = None if plan.clip_groups is None else list(adaptation.clip_groups.values())
    clip = plan.clip()
    # a probe will choose among them: the same bound, shared by all
    if groups is not None and len(groups) != plan.clip_groups:
        clip = per_group(equal_shares(plan.clip_norm, len(groups)), plan.gamma)
    one_pass = prepared.performance.engine == "one-pass"
    units = max(FEWEST, prepared.performance.micro_batch or 0) if one_pass else FEWEST
    batch, settings = (
        made_up_batch(prepared, units),
        {
            "draws": plan.noise_draws,
            "clip": clip.factors,
        },
    )
    kind = Engine if one_pass else ReferenceEngine
    with kind(adaptation.model, adaptation.trainable, groups=groups) as engine:

        def total(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            some = replace(batch, weight=weight)
            sums, norms = engine.clipped_sum(
                adaptation.row_losses, some, rounding=plan.rounding, **settings
            )
            return torch.cat([value.flatten() for value in sums.values()]), norms

        whole, norms = total(batch.weight)
        for unit in sorted({0, units // 2, units - 1}):
            weight, others = batch.weight.clone(), torch.arange(units) != unit
            weight[unit] = 0
            less, left = total(weight)
            if not torch.equal(norms[others], left[others]):
                raise RuntimeError(
                    "taking one record out changes the gradients of others on this machine, so no"
                    " clip bounds them: try one thread (OMP_NUM_THREADS=1), --micro-batch-size 1 or"
                    " --engine reference"
                )
            if float((whole - less).double().norm()) > plan.rounding.bound:
                raise RuntimeError(
                    "one record moves the sum by more than its bound on this machine"
                )


@dataclass(frozen=True)
class Start:
    """Where an attempt begins: its number, the salt of its draws, and the checkpoint (facts,
    tensors) it goes on from.
    """

    attempt: int
    salt: str
    checkpoint: tuple | None = None


def open_run(
    output: Path, prepared: Prepared, records, ledger: str | Path, facts_of: Callable, on_stage
) -> Start:
    """A new run folder, tried, charged and begun; refused before the charge, it leaves no folder.

    `facts_of(run, records)`: what the certificate will be built from.
    """
    run = Run.create(
        output, prepared.plan, prepared.options, budget.open_ledger(ledger), prepared.start
    )
    try:
        preflight(run, prepared, records.n, facts_of(run, records), on_stage)
        # Charge before read: a crash after this line is spent, whatever the pixels were.
        run.charge(records, prepared.public_inputs, prepared.ancestors)
    except Exception:
        if not run.ledger.charged_events():
            shutil.rmtree(run.folder)
        raise
    return Start(0, run.begin(records, 0))


def train_run(
    run, prepared: Prepared, records, start: Start, progress, on_stage, work: Work | None = None
) -> Run:
    """Encode, learn and save; `work` says what of an inversion is to be done now."""
    plan, performance, attempt = run.plan, prepared.performance, start.attempt
    key = run.key.for_attempt(start.salt)
    keep_memory()
    use_threads(performance.threads)
    ranks.on_first_rank(run.require_charge)
    ranks.on_first_rank(lambda: _encode(run, prepared, records, on_stage))
    data = open_latents(run.folder / "cache")
    if plan.aggregation is not None:
        # its one step: a new attempt pays for the sum again
        ranks.on_first_rank(lambda: begin_interval(run, attempt, 0))
        with StopFlag() as stop:
            work = replace(work or Work(), stop=lambda: stop.asked)
            found = invert(run, prepared, data, records.reading_order, key, attempt, work, on_stage)
        if found is not None:
            ranks.on_first_rank(lambda: _note_exact_tokens(run))
            ranks.on_first_rank(lambda: _save(run, found, records, attempt))
        return run
    if plan.probe is not None and ranks.on_first_rank(lambda: run.selected) is None:
        on_stage("probing which matrices matter")
        prepared = choose_matrices(run, prepared, data, key, attempt)
    state = State(
        prepared.adaptation.trainable, prepared.adaptation.learning_rate_factor, prepared.recipe
    )
    if start.checkpoint is not None:
        facts, tensors = start.checkpoint
        state.restore(tensors, facts["step"])
    stop, metrics = StopFlag(), run.folder / "metrics.jsonl"

    def announce(facts: dict) -> None:
        # The ledger knows a checkpoint's hash first: what lies on disk later is this file or none.
        made = note_state(run, state.tensors())
        run.record(
            CheckpointMade(
                made=made.made,
                blocks=made.blocks,
                checkpoint=facts["step"],
                attempt=attempt,
                sha256=facts["sha256"],
            )
        )

    def start_interval() -> int:
        return ranks.on_first_rank(lambda: begin_interval(run, attempt, state.step))

    def on_step(now: Progress, state: State) -> bool:
        nonlocal end
        stopping = ranks.any_rank(stop.asked)
        if ranks.rank() == 0:
            with open(metrics, "a", encoding="utf-8") as table:
                row = {
                    "step": now.step,
                    "epsilon": plan.epsilon_after(now.step),
                    "learning_rate": now.learning_rate,
                }
                table.write(json.dumps(row) + "\n")
            if now.step % performance.checkpoint_steps == 0 or stopping or now.step == plan.steps:
                write_checkpoint(
                    run.folder / "checkpoints", state, attempt, key.id, plan.digest, announce
                )
            progress(now, plan)
        if now.step == end and not stopping and now.step < plan.steps:
            end = start_interval()
        return not stopping

    on_stage("training")
    end = start_interval() if state.step < plan.steps else state.step
    with stop, _device_errors(state, plan):
        finished = train(
            plan,
            prepared.adaptation,
            data,
            key,
            attempt=attempt,
            recipe=prepared.recipe,
            performance=performance,
            state=state,
            on_step=on_step,
        )
    if not finished:
        raise Interrupted(f"stopped at step {state.step} of {plan.steps}; continue with --resume")
    on_stage("saving")
    state.use_average()
    ranks.on_first_rank(lambda: _save(run, prepared, records, attempt))
    return run


def _note_exact_tokens(run: Run) -> None:
    """Tokens of an inversion without noise, where they are kept to be compared with, as weights
    that are nobody's public base.
    """
    for name in EXACT:
        if (run.folder / CONTROLS / name).is_dir():
            run.record(note_weights(run, "control", run.folder / CONTROLS / name))


@contextlib.contextmanager
def _device_errors(state: State, plan: Plan) -> Iterator[None]:
    """Out of memory and device errors end the attempt (L5): no batch is cut, drawn again or left
    out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, MemoryError) or type(error).__name__ in (
            "OutOfMemoryError",
            "AcceleratorError",
        )
        if not known and not re.match(r"CUDA error|.*DefaultCPUAllocator", str(error)):
            raise
        raise Interrupted(
            f"the device failed in step {state.step + 1} of {plan.steps}; continue with --resume,"
            " and if it was memory after making room for it"
        ) from error


def _encode(run: Run, prepared: Prepared, records, on_stage) -> None:
    with open(run.folder / "cache.lock", "a+") as turn:
        # of shards that start together one encodes, and the others wait
        lock(turn)
        if not (run.folder / "cache" / "done").exists():
            _write_cache(run.folder / "cache", prepared, records, on_stage)


def _write_cache(cache: Path, prepared: Prepared, records, on_stage) -> None:
    on_stage("encoding the images")
    lost = 0

    def images(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal lost
        found, good = records.load(slots, prepared.base.resolution)
        lost += int((records.usable[slots] & ~good).sum())
        return found, good

    build_latents(
        cache,
        records.n,
        images,
        prepared.base.encode,
        np.where(records.usable, records.labels, -1),
        records.unit,
        order=records.reading_order,
    )
    if lost:
        on_stage(
            f"note: {lost} images changed or vanished since they were indexed: zero slots, as"
            " unreadable ones are"
        )
    write_file(cache / "done", b"")


def _save(run: Run, prepared: Prepared, records, attempt: int) -> None:
    plan, key, temporary = run.plan, run.key, run.folder / "model.part"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        # before saving, which may merge adapters into the base
        public = frozen_contents(prepared.adaptation)
        prepared.adaptation.save(temporary)
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


def noisy_class_counts(records, plan: Plan, key: RunKey) -> np.ndarray:
    """The histogram that the plan pays for: bounded class counts with noise, float64 [classes]. One
    release per key.
    """
    counts = bounded_counts(records, plan)
    return noisy_histogram(
        counts, plan.histogram_noise_multiplier, key, max_per_unit=plan.max_per_unit
    )


def bounded_counts(records, plan: Plan) -> np.ndarray:
    """Class counts with at most plan.max_per_unit images of each unit: what the histogram's
    sensitivity was priced for.
    """
    use = np.flatnonzero(records.usable & (records.labels >= 0))
    order = use[np.argsort(records.unit[use], kind="stable")]
    unit = records.unit[order]
    place = np.arange(len(order)) - np.searchsorted(unit, unit)
    return np.bincount(
        records.labels[order[place < plan.max_per_unit]], minlength=len(plan.classes)
    )


def continue_run(run: Run, records, new_attempt: bool) -> Start:
    """Where to go on; bills the retry reserve or records a free replay."""
    ledger = run.ledger
    seen = len(ledger.rows)
    if run.plan.aggregation is None:
        require_grid(run.plan)
    charges, attempts = ledger.entries(Charged), ledger.entries(Attempt)
    if not charges:
        raise LedgerFault("the run was never charged: adapt into a new folder")
    if run.data_digest(records) != charges[0].data:
        raise DataError("the private images are not those of the run: resume with the same data")
    if not attempts:
        # it died between charge and start: no pixel was read
        return Start(0, run.begin(records, 0))
    last, number = attempts[-1], len(attempts) - 1
    found = latest_checkpoint(run.folder / "checkpoints")
    if found is not None and (
        found[0]["plan"] != run.plan.digest or found[0]["key_id"] != run.key.id
    ):
        raise SfumatoError(
            "the checkpoint belongs to another run: put the run's own checkpoints back"
        )
    step = found[0]["step"] if found else 0
    noted = [made.sha256 for made in ledger.entries(CheckpointMade) if made.checkpoint == step]
    if found and found[0]["sha256"] not in noted[-1:]:
        raise LedgerFault(
            "the newest checkpoint is not the one that the ledger knows: put the run's own back"
        )
    if not new_attempt:
        if step < last.from_step:
            raise SfumatoError(
                "the checkpoint that this attempt started from is gone, so its draws cannot be"
                " repeated; use --new-attempt"
            )
        now, then = run.fingerprint, last.fingerprint
        # What an older version did not note counts as changed: nobody knows whether it is the same.
        if changed := [
            name for name in {**then, **now} if name not in then or now.get(name) != then[name]
        ]:
            raise SfumatoError(
                f"a free replay needs the same {', '.join(changed)} as when the run started; "
                "--new-attempt continues with fresh noise, paid from the plan's retry reserve"
            )
        if ledger.entries(Released):
            raise SfumatoError(
                "something of this run was released already: a replay is not free; use"
                " --new-attempt"
            )
        run.record(Replayed(attempt=number, from_step=step))
        return Start(number, last.salt, found)
    if run.plan.probe is not None and run.selected is None:
        raise SfumatoError(
            "the run stopped before its probe was recorded, and the retry reserve pays for training"
            " steps only: --resume without --new-attempt, or adapt into a new folder"
        )
    # All that the last attempt may have run after the checkpoint we go on from is billed again.
    billed = max(reached(run, number) - step, 0)
    attempt = number + 1
    return Start(
        attempt, run.begin(records, attempt, from_step=step, billed=billed, seen=seen), found
    )
