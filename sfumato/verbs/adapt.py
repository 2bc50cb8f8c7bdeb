"""`adapt`: a public base learns from private images, under the plan's budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack, cast

from ..compute import fingerprint, ranks
from ..compute.device import using
from ..errors import SfumatoError
from ..methods import DEFAULT, METHODS, Method
from ..methods.shared import require_shareable
from ..options import Execution, Reading, declared, takes
from ..options.progress import listening
from ..planning.estimate import fit_to_machine
from ..planning.forecast import outlook, require_worth
from ..planning.inputs import (
    Source,
    on_terms,
    prepare_as_asked,
    records_of,
    unlabelled_if_flat,
)
from ..planning.names import what_would_leak
from ..planning.published import require_asking, require_yes, require_yes_to
from ..planning.task import GROUPS, Task, task_of
from ..planning.timing import solved
from ..planning.warnings import remarks_on
from ..privacy.plan import Plan
from ..records import RecordSet, would_read
from ..releases import CertificateFacts
from ..runs import budget
from ..runs.alike import require_alike_images, require_alike_plan, require_alike_start
from ..runs.execute import open_run, train_run
from ..runs.facts import certificate_facts
from ..runs.folder import Run
from ..runs.lock import one_writer, resumable
from ..runs.reading import to_remember
from ..training import Progress
from .chosen import candidates_for, chosen, open_on_candidates
from .keywords import AdaptOptions
from .resume import OF_A_RESUME, go_on, nothing


@takes(**GROUPS, method=tuple(METHODS.values()))
def adapt(
    images: Source,
    *,
    output: str | Path,
    method: str | Method = "attention",
    base: str | Path | None = None,
    public_data: Source | None = None,
    seed: int = 0,
    ledger: str | Path | None = None,
    allow_file_system: bool = False,
    resume: bool = False,
    new_attempt: bool = False,
    progress: Callable[[Progress, Plan], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
    **options: Unpack[AdaptOptions],
) -> Run:
    """Adapt a public base to private images under differential privacy.

    Everything private stays in `output`. On SIGTERM or Ctrl-C the run stops at a step boundary and
    raises Interrupted; `resume` goes on.

    Args:
        images: The private images, as for `inspect`.
        output: The run folder, a new one.
        method: Name of a method (`methods()`), or its options, such as `Lora(rank=4)`.
        base: A bundled base (`bases()`), or a folder in the diffusers format; required.
        public_data: Images that need no protection, for `choose="public"`, `adapter_init="public"`
            and `subspace="public"`.
        seed: Public: how adapters start. It never reaches the noise.
        ledger: The owner's ledger of all that was spent (default: $SFUMATO_LEDGER, or in the data
            folder).
        allow_file_system: Keep the ledger also on what is not known to be a local disk, which
            certificates show.
        resume: The same as the verb `resume`, which takes no option of a plan.
        new_attempt: With `resume`: see there.
        progress: Called after every step with where training stands, and the plan.
        on_stage: Called with a line for every stage that begins, and with notes ("note: ...").
        options: Fields of the option classes, or whole objects; `epsilon` is required. And
            `confirm`, a function: asked whether all that a release would make public, a list of
            (what, value), may be, where class names were read off the data and nobody said
            `yes_public`.

    Returns:
        The run; `run.plan` says what it cost.

    Raises:
        SfumatoError: No base; options that contradict each other, before anything is opened; data,
            bases, ledgers and budgets that do not allow the run, and a run that can learn nothing
            (without `anyway`), before anything is charged.
        Interrupted: It was stopped, or the device failed; nothing is lost.
    """
    confirm = options.pop("confirm", None)
    if confirm is not None and not callable(confirm):
        raise SfumatoError(f"confirm {confirm!r}: must be a function of the list of what is public")
    if resume:
        if own := _of_a_new_run(method, base, public_data, seed, options):
            raise SfumatoError(
                f"{own} does not go with --resume: the run keeps its own plan and options"
            )
        rest = cast(Any, options)
        how = (new_attempt, False)
        return go_on(images, output, ledger, allow_file_system, how, progress, on_stage, rest)
    progress, on_stage = progress or nothing, on_stage or nothing
    if new_attempt:
        raise SfumatoError(
            "--new-attempt requires --resume: it continues a run with fresh, paid draws"
        )
    reading, execution, task = task_of(method, base, seed, **options)
    if task.privacy.epsilon is None:
        raise SfumatoError("--epsilon is required: 1 is strong privacy, 10 is weak")
    task.method.check_execution(execution)
    with using(task.machine.device):
        told, where = (progress, on_stage), (ledger, allow_file_system)
        asked = (reading, execution, task)
        return _adapt(images, Path(output), asked, public_data, where, confirm, told)


def _adapt(
    images: Source,
    output: Path,
    asked: tuple[Reading, Execution, Task],
    public_data: Source | None,
    where: tuple[str | Path | None, bool],
    confirm: Any,
    told: tuple[Callable[[Progress, Plan], None], Callable[[str], None]],
) -> Run:
    """A new run, on the device that is in use."""
    (reading, execution, task), (ledger, allow_file_system) = asked, where
    progress, on_stage = told
    ranks.start(lambda: fingerprint.of_rank(task.performance.threads))
    require_alike_start("adapt", [repr(task), repr(reading), repr(execution)])
    require_shareable(task.method, task.performance, task.schedule.time is not None)
    on_stage("reading the images")
    with listening(on_stage):
        records = records_of(images, unlabelled_if_flat(images, reading, task.method))
    if would_read(records.kind, records.source, output):
        raise SfumatoError(f"{output} would lie among the private images: name a place outside")
    require_alike_images(records)
    if not records.few and not what_would_leak(records.classes, records.n_units):
        # before the minute that plan and prices take
        ranks.on_first_rank(lambda: require_asking(records, reading, confirm))
    place = ledger or budget.default_path(output)
    # The ledger lies on the first rank's machine; an error while opening it must reach every rank.
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
    on_stage("composing the plan and its noise")
    if task.choosing.match:
        if known.remark:
            on_stage(f"note: {known.remark}")
        asked = (reading, execution, on_terms(task, known))
        return _adapt_matched(images, output, asked, public_data, place, records, confirm, told)
    prepared = prepare_as_asked(records, on_terms(task, known), public_data, place, on_stage)
    require_alike_plan(prepared)
    for remark in ([known.remark] if known.remark else []) + list(remarks_on(prepared, records)):
        on_stage(f"note: {remark}")
    if (seconds := prepared.options.get("time")) is not None:
        on_stage(f"note: {solved(prepared.plan, seconds)}")
    on_stage(f"note: forecast: {outlook(prepared).sentence}")
    require_worth(prepared, task.privacy.anyway)
    # one person is asked, once
    ranks.on_first_rank(lambda: require_yes(prepared, records, reading, confirm))
    on_stage("timing this machine on dummy images")
    prepared = fit_to_machine(
        prepared, runs=True
    )  # checked with the very rows that it will run with
    prepared.method.check(prepared, on_stage)

    def facts_of(run: Run, records: RecordSet) -> CertificateFacts:
        return certificate_facts(run, records, prepared.ancestors)

    start = ranks.on_first_rank(
        lambda: open_run(
            output,
            prepared,
            records,
            place,
            facts_of,
            on_stage,
            to_remember(images, reading),
        )
    )
    with resumable():
        run = ranks.on_first_rank(lambda: Run.open(output, place))
        with one_writer(run, execution.shard):
            return train_run(run, prepared, records, start, execution, progress, on_stage)


def _adapt_matched(
    images: Source,
    output: Path,
    asked: tuple[Reading, Execution, Task],
    public_data: Source | None,
    place: str | Path,
    records: RecordSet,
    confirm: Any,
    told: tuple[Callable[[Progress, Plan], None], Callable[[str], None]],
) -> Run:
    """The rest of a run whose images choose its base."""
    (reading, execution, task), (progress, on_stage) = asked, told
    found, listed = candidates_for(records, task, execution, public_data, place, on_stage)
    ranks.on_first_rank(lambda: require_yes_to(listed, records, reading, confirm))
    kept = to_remember(images, reading)
    start = ranks.on_first_rank(
        lambda: open_on_candidates(output, found, records, place, on_stage, kept)
    )
    with resumable():
        run = ranks.on_first_rank(lambda: Run.open(output, place))
        with one_writer(run, execution.shard):
            run, prepared = chosen(run, records, start, on_stage)
            return train_run(run, prepared, records, start, execution, progress, on_stage)


def _of_a_new_run(
    method: str | Method,
    base: str | Path | None,
    public_data: Source | None,
    seed: int,
    options: Mapping[str, Any],
) -> str | None:
    """The flag of an option that only a new run takes, if one was given."""
    said = {
        "method": method != DEFAULT,
        "base": base is not None,
        "public_data": public_data is not None,
        "seed": seed != 0,
    }
    own = {one.name for kind in OF_A_RESUME.values() for one in declared(kind)}
    rest = [n for n, v in options.items() if n not in own | set(OF_A_RESUME) and v is not None]
    found = [*(name for name, given in said.items() if given), *rest]
    return "--" + found[0].replace("_", "-") if found else None
