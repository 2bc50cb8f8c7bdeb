"""`adapt`: a public base learns from private images, under the plan's budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..compute import fingerprint, ranks
from ..errors import SfumatoError
from ..planning.estimate import fit_to_memory
from ..planning.inputs import (
    Source,
    as_planned,
    on_terms,
    prepare_as_asked,
    records_of,
    require_inversion,
    split,
    unlabelled_if_flat,
)
from ..planning.warnings import remarks_on
from ..privacy.plan import Plan
from ..releases import CertificateFacts
from ..runs import budget
from ..runs.execute import check_gradients, continue_run, open_run, train_run
from ..runs.facts import certificate_facts
from ..runs.folder import Run
from ..runs.inversion import Work
from ..runs.lock import one_writer
from ..runs.prepared import rebuild
from ..training import Progress


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
    """Adapt a public base to private images under differential privacy; everything private stays in
    `output`.

    With `resume`, continue the run in `output` from its last checkpoint: as a free replay of the
    same random draws if data, code, versions and checkpoint are the same, otherwise refused;
    `new_attempt` then pays for fresh draws from the plan's retry reserve (`retry_fraction`). On
    SIGTERM or Ctrl-C the run stops at a step boundary and raises Interrupted. `ledger`: the owner's
    ledger of all that was spent (default `sfumato.runs.budget.default_path`, or the run's own);
    `allow_file_system`: also on what is not known to be a local disk, which certificates show. Of
    an inversion: `shard` (i, k) inverts every k-th chunk and ends, the others follow with `resume`,
    and a last `resume` without a shard adds up; `keep_inversions` leaves the private embeddings of
    single images in the run folder, `controls` the exact mean and one image's embedding alone, as
    tokens to compare with (`evaluate`). Both are PRIVATE and stay there. Other options as in
    `sfumato.planning.prepare.prepare` and `records.load_records`.
    """
    reading, preparing = split(options)
    ranks.start(fingerprint.numerics)
    work = Work(shard, keep_inversions, controls)
    if resume:
        if allow_file_system:
            place = ledger or budget.ledger_of_run(output)
            ranks.on_first_rank(lambda: budget.open_ledger(place, allow_file_system=True).close())
        run = ranks.on_first_rank(lambda: Run.open(output, ledger))
        if (run.folder / "model").exists():
            raise SfumatoError(
                f"{run.folder} is finished: synthesize from it, or adapt into a new folder"
            )
        require_inversion(run.plan.aggregation is not None, work)
        reading = as_planned(
            unlabelled_if_flat(path, reading, {"method": run.plan.method}), run.plan
        )
        records = records_of(path, reading)
        known = ranks.on_first_rank(
            lambda: budget.standing(run.ledger.ledger, records.fingerprints, **records.marks)
        )
        records = records.rearranged(known.order)
        with one_writer(run, shard):
            # Inside, so that a probe recorded by the process before us is seen.
            selected = ranks.on_first_rank(lambda: run.selected)
            prepared = rebuild(run.plan, run.options, selected, run.start)
            check_gradients(prepared, on_stage)
            start = ranks.on_first_rank(lambda: continue_run(run, records, new_attempt))
            return train_run(run, prepared, records, start, progress, on_stage, work)
    else:
        if epsilon is None:
            raise SfumatoError("--epsilon is required: it is the promise; 1 is strong, 10 is weak")
        require_inversion(preparing.get("method") == "inversion", work)
        records = records_of(path, unlabelled_if_flat(path, reading, preparing))
        place = ledger or budget.default_path(Path(output))
        # The ledger lies on the first rank's machine; an error while opening it must reach every
        # rank.
        known = ranks.on_first_rank(
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
        for remark in ([known.remark] if known.remark else []) + list(
            remarks_on(prepared, records)
        ):
            on_stage(f"note: {remark}")
        prepared = fit_to_memory(prepared)  # checked with the very rows that it will run with
        check_gradients(prepared, on_stage)

        def facts_of(run: Run, records) -> CertificateFacts:
            return certificate_facts(run, records, prepared.ancestors)

        start = ranks.on_first_rank(
            lambda: open_run(Path(output), prepared, records, place, facts_of, on_stage)
        )
        run = ranks.on_first_rank(lambda: Run.open(output, place))
        with one_writer(run, shard):
            return train_run(run, prepared, records, start, progress, on_stage, work)
