"""What a person does with sfumato: each verb is a page that reads as the argument."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import budget, machine, parallel
from .adapting import check_gradients, continue_run, open_run, train_run
from .asked import (
    Source,
    as_planned,
    on_terms,
    prepare_as_asked,
    records_of,
    require_inversion,
    split,
    unlabelled_if_flat,
)
from .bases import Base, bundled_bases, make_scheduler, open_adapted
from .certified import verify as verify_release
from .errors import MachineError, SfumatoError
from .estimate import Estimate, estimate, fit_to_memory
from .finishing import finish
from .guarding import one_writer
from .inversion.advisor import Forecast
from .inverting import Drawing, Work, exact_controls, expectation, public_side, report_controls
from .looks import looks_of, selections_of
from .methods import METHODS
from .preflight import kept_prices, lay_out_model
from .prepare import original_base, rebuild, shares_of
from .privacy.plan import Plan
from .records import Summary, describe
from .releases import DRAFT, VerifyReport, write_draft
from .remarks import remarks_on
from .run import Run, code_version
from .sealed import require_sealed
from .synthesis import Sampling, check_request, write_dataset
from .training import Progress


@dataclass(frozen=True)
class PlanReport:
    """A plan, what it will take here, and remarks for the person who reads it; of an inversion also what it will be worth."""

    plan: Plan
    estimate: Estimate
    remarks: tuple[str, ...]
    forecast: Forecast | None = None


def inspect(path: Source, **reading: Any) -> Summary:
    """What is in a folder of private images. Everything in the answer is private: keep it on this machine.

    `reading`: labels, unit, caption_column, classes, max_bad, unlabelled, yes_public as in `records.load_records`.
    """
    return describe(records_of(path, reading))


def plan(path: Source, *, epsilon: float, ledger: str | Path | None = None, **options: Any) -> PlanReport:
    """Mechanism, noise, steps, time, memory and expected signal-to-noise, before a pixel is read for training.

    epsilon: the target. ledger: as in `adapt`; it is looked at, never made. Other options as in `prepare.prepare` and
    `records.load_records`; `public_data`, images that need no protection, for `choose="public"` and `adapter_init="public"`.
    Raises SfumatoError where the target cannot be met, saying what would.
    """
    reading, preparing = split(options)
    records = records_of(path, unlabelled_if_flat(path, reading, preparing))
    place, remarks = Path(ledger or budget.default_path()), ()
    if place.exists():
        known = budget.standing(
            budget.open_ledger(place), records.fingerprints, **records.marks, unit=records.unit_column or "record"
        )
        preparing = on_terms(preparing, known)
        remarks = (known.remark,) if known.remark else ()
    prepared = prepare_as_asked(records, epsilon, preparing, place if place.exists() else None)
    expected = None if prepared.adaptation.inversion is None else expectation(prepared)
    remarks += remarks_on(prepared, records)
    return PlanReport(prepared.plan, estimate(prepared), remarks, expected)


def adapt(
    path: Source,
    *,
    output: str | Path,
    epsilon: float | None = None,
    resume: bool = False,
    new_attempt: bool = False,
    ledger: str | Path | None = None,
    allow_file_system: bool = False,
    shard: tuple[int, int] | None = None,
    keep_inversions: bool = False,
    controls: bool = False,
    progress: Callable[[Progress, Plan], None] = lambda progress, plan: None,
    on_stage: Callable[[str], None] = lambda stage: None,
    **options: Any,
) -> Run:
    """Adapt a public base to private images under differential privacy; everything private stays in `output`.

    With `resume`, continue the run in `output` from its last checkpoint: as a free replay of the same random draws if
    data, code, versions and checkpoint are the same, otherwise refused; `new_attempt` then pays for fresh draws from
    the plan's retry reserve (`retry_fraction`). On SIGTERM or Ctrl-C the run stops at a step boundary and raises
    Interrupted. `ledger`: the owner's ledger of all that was spent (default `budget.default_path`, or the run's own);
    `allow_file_system`: also on what is not known to be a local disk, which certificates show.
    Of an inversion: `shard` (i, k) inverts every k-th chunk and ends, the others follow with `resume`, and a last `resume` without
    a shard adds up; `keep_inversions` leaves the private embeddings of single images in the run folder, `controls` the exact mean
    and one image's embedding alone, as tokens to compare with (`evaluate`). Both are PRIVATE and stay there.
    Other options as in `prepare.prepare` and `records.load_records`.
    """
    reading, preparing = split(options)
    parallel.start(machine.numerics)
    work = Work(shard, keep_inversions, controls)
    if resume:
        if allow_file_system:
            place = ledger or budget.ledger_of_run(output)
            parallel.on_first_rank(lambda: budget.open_ledger(place, allow_file_system=True).close())
        run = parallel.on_first_rank(lambda: Run.open(output, ledger))
        if (run.folder / "model").exists():
            raise SfumatoError(f"{run.folder} is finished: synthesize from it, or adapt into a new folder")
        require_inversion(run.plan.aggregation is not None, work)
        reading = as_planned(unlabelled_if_flat(path, reading, {"method": run.plan.method}), run.plan)
        records = records_of(path, reading)
        known = parallel.on_first_rank(
            lambda: budget.standing(run.ledger.ledger, records.fingerprints, **records.marks)
        )
        records = records.rearranged(known.order)
        with one_writer(run, shard):
            # Inside, so that a probe recorded by the process before us is seen.
            selected = parallel.on_first_rank(lambda: run.selected)
            prepared = rebuild(run.plan, run.options, selected, run.start)
            check_gradients(prepared, on_stage)
            start = parallel.on_first_rank(lambda: continue_run(run, records, new_attempt))
            return train_run(run, prepared, records, start, progress, on_stage, work)
    else:
        if epsilon is None:
            raise SfumatoError("--epsilon is required: it is the promise; 1 is strong, 10 is weak")
        require_inversion(preparing.get("method") == "inversion", work)
        records = records_of(path, unlabelled_if_flat(path, reading, preparing))
        place = ledger or budget.default_path(Path(output))
        # The ledger lies on the first rank's machine; an error while opening it must reach every rank.
        known = parallel.on_first_rank(
            lambda: budget.standing(
                budget.open_ledger(place, allow_file_system=allow_file_system),
                records.fingerprints,
                **records.marks,
                unit=records.unit_column or "record",
            )
        )
        # Slots in the order of keyed hashes: what a file is called decides nothing.
        records = records.rearranged(known.order)
        prepared = prepare_as_asked(records, epsilon, on_terms(preparing, known), place)
        for remark in ([known.remark] if known.remark else []) + list(remarks_on(prepared, records)):
            on_stage(f"note: {remark}")
        prepared = fit_to_memory(prepared)  # checked with the very rows that it will run with
        check_gradients(prepared, on_stage)

        def facts_of(run: Run, records) -> dict:
            return _certificate_facts(run, records, prepared.ancestors)

        start = parallel.on_first_rank(lambda: open_run(Path(output), prepared, records, place, facts_of, on_stage))
        run = parallel.on_first_rank(lambda: Run.open(output, place))
        with one_writer(run, shard):
            return train_run(run, prepared, records, start, progress, on_stage, work)


def synthesize(
    run: Run | str | Path,
    n: int,
    output: str | Path,
    *,
    sampling: Sampling | None = None,
    class_shares: Mapping[str, float] | None = None,
    ledger: str | Path | None = None,
    keep_key: bool = False,
    form: str = "imagefolder",
    shard: tuple[int, int] = (0, 1),
    controls: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write `n` labelled synthetic pictures from an adapted model into a new folder, with their certificate.

    Class shares are uniform, declared in `class_shares`, or the noisy histogram that the plan paid for. Form is
    "imagefolder" or "parquet". Image i's seed is a hash of the public seed and i, so shards (i, k) fit together.
    `ledger`: where the run's ledger is, if it was moved. The run's secret key is erased then, unless `keep_key`.
    controls: after an inversion, draw a few pictures more for the report, with tokens that no private image decides.
    """
    run = run if isinstance(run, Run) else Run.open(run, ledger)
    require_sealed(run)
    plan, source, sampling = run.plan, "uniform", sampling or Sampling()
    public = public_side(run)
    base = adapted_base(run) if public is None else open_adapted(run.model, lambda: public.base)
    shares = shares_of(plan, None)
    counts = run.folder / "model" / "class_counts.json"
    if class_shares is not None:
        if set(class_shares) != set(plan.classes):
            raise SfumatoError(f"--class-shares must name every class once: {', '.join(plan.classes)}")
        shares, source = [class_shares[c] for c in plan.classes], "declared"
    elif counts.exists():
        shares, source = shares_of(plan, np.array(json.loads(counts.read_text()))), "noisy-histogram"
    check_request(Path(output), n, shares, form, shard, sampling)
    make_scheduler(base, sampling.scheduler)
    run.record("RELEASE", {"kind": "images", "n": n, "seed": sampling.seed})

    def seal(folder: Path, settings: dict) -> None:
        drawing = Drawing(base, n, shares, shard, sampling) if controls else None
        beside = report_controls(public, run.model, drawing)
        facts = _certificate_facts(run, keep_key=keep_key) | {"run_folder": str(run.folder)}
        write_draft(folder, **facts, artefacts="images", settings=settings, controls=beside)

    write_dataset(
        base,
        Path(output),
        n=n,
        classes=plan.classes,
        prompts=plan.prompts,
        shares=shares,
        share_source=source,
        sampling=sampling,
        seal=seal,
        form=form,
        shard=shard,
        progress=progress,
    )
    run.certify(Path(output) / DRAFT, keep_key)
    return Path(output)


def export(
    run: Run | str | Path, output: str | Path, *, ledger: str | Path | None = None, keep_key: bool = False
) -> Path:
    """Copy the adapted model itself (LoRA file or pipeline folder) into a new folder, ready for `release`.

    `ledger` and `keep_key` as in `synthesize`.
    """
    run = run if isinstance(run, Run) else Run.open(run, ledger)
    output = Path(output)
    if output.exists():
        raise SfumatoError(f"{output} exists: name a new folder (nothing is overwritten)")
    require_sealed(run)
    run.record("RELEASE", {"kind": "model"})
    temporary = output.with_name(f".{output.name}.part")
    try:
        lay_out_model(run.model, temporary)
        beside = report_controls(public_side(run), run.model)
        facts = _certificate_facts(run, keep_key=keep_key) | {"run_folder": str(run.folder)}
        write_draft(temporary, **facts, artefacts="model", settings={}, controls=beside)
        temporary.rename(output)
    except OSError as error:
        raise MachineError(
            f"cannot write {output}: {error.strerror}; free some space or choose another disk"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    run.certify(output / DRAFT, keep_key)
    return output


def release(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    ledger: str | Path | None = None,
    without_ledger: bool = False,
    title: str | None = None,
    licence: str = "other",
    public_metrics: Sequence[Mapping[str, Any]] | None = None,
    require_audit: bool = False,
) -> Path:
    """Finish a folder of `synthesize` or `export`: cards, certificate, report, verifier and hashes; returns it.

    The draft is compared with the run's ledger (`ledger`: where it is, if it was moved); LedgerFault if it is not the one that was
    certified. The ledger also says what happened since: looks at exact private scores, and choices among runs. `without_ledger`: it
    is gone (LedgerFault where it is not); the certificate says that nothing was compared, and that looks and later choices are not known.
    `out`: a new folder (default: in place). `public_metrics`: rows {name, value, public_data} of figures on public data, which the
    report prints as your word: nobody checks where a figure comes from, but one of the run's private evaluations is refused, as are words
    that hold a charged caption. `require_audit`: AuditFailed unless the run was audited before, completely and by this code, and passed.
    """
    return finish(
        Path(folder), None if out is None else Path(out), ledger=ledger, without_ledger=without_ledger, title=title, licence=licence,
        public_metrics=public_metrics, require_audit=require_audit,
    )  # fmt: skip


def verify(folder: str | Path, ledger: str | Path | None = None) -> VerifyReport:
    """Check a finished release: every file's hash, no stray file, epsilon priced again from privacy.json alone.

    ledger: the owner's, to compare the certificate with as well.
    """
    return verify_release(Path(folder), ledger)


def methods() -> dict[str, str]:
    """Name -> one line for each method."""
    return {name: _first_line(function) for name, function in METHODS.items()}


def bases() -> dict[str, str]:
    """Name -> one line for each bundled base: the first of its model card's text."""
    found = {}
    for name, folder in bundled_bases().items():
        lines = (folder / "README.md").read_text(encoding="utf-8").partition("\n# ")[2].splitlines()[1:]
        line = next((line for line in lines if line.strip()), name)
        found[name] = re.sub(r"the (public \w+(?: \w+)?) below", r"\1", line)  # the card lists them, this line does not
    return found


def adapted_base(run: Run) -> Base:
    """The base with the run's released changes in it."""
    return open_adapted(run.model, lambda: original_base(run.plan))


def _certificate_facts(run: Run, records=None, ancestors: Sequence[dict] = (), keep_key: bool = False) -> dict:
    """What the certificate is built from; before the charge, with `records` and `ancestors`, what it will be built from."""
    internal = sorted(p.stem for p in (run.folder / "evaluation").glob("*.json")) + exact_controls(run)
    return {
        "plan": run.plan.to_json(),
        "ledger": run.ledger_facts(records, ancestors),
        "prices": kept_prices(run),
        "run_key_id": run.key_id,
        "code_version": code_version(),
        "place": str(run.ledger_path),
        "conditions": {
            "base": run.plan.base,
            "base_digest": run.plan.base_digest,
            "not_private": internal,
            "selection": run.selection,
            "looks": looks_of(run, records),
            "selections": selections_of(run.ledger.ledger, run.id),
            "key_kept": keep_key,
            "audit": run.audit,
            "audits_failed": sum(note.get("passed") is False for note in run.ledger.bodies("NOTE")),
            "public_inputs": run.ledger.bodies("PUBLIC"),
            "lineage": run.lineage,
            **run.options["statements"],
        },
    }


def _first_line(function: Callable) -> str:
    import sys

    return (sys.modules[function.__module__].__doc__ or "").strip().splitlines()[0]
