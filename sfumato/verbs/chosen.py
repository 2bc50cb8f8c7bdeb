"""`adapt --match`: every candidate is prepared and tried, one plan is charged, the votes choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..compute import ranks
from ..errors import SfumatoError
from ..methods import Prepared
from ..methods.shared import share_base
from ..options import Execution, Sampling
from ..planning.choosing import (
    PICTURES,
    SAMPLER_STEPS,
    Candidate,
    all_published,
    named,
    require_one_price,
    tasks_of,
)
from ..planning.estimate import fit_to_machine
from ..planning.forecast import outlook, require_worth
from ..planning.inputs import Source, prepare_as_asked
from ..planning.published import Listed, published
from ..planning.task import Task
from ..planning.warnings import remarks_on
from ..records import RecordSet
from ..releases import CertificateFacts
from ..runs.alike import require_alike_plan
from ..runs.choice import choose_base, open_choice
from ..runs.execute import Start
from ..runs.facts import certificate_facts
from ..runs.folder import Run
from ..runs.matching import TODAY
from ..runs.prepared import rebuild
from .match import features_of

Told = Callable[[str], None]


def candidates_for(
    records: RecordSet,
    task: Task,
    execution: Execution,
    public_data: Source | None,
    place: str | Path,
    on_stage: Told,
) -> tuple[list[Candidate], Listed]:
    """Prepares, fits and checks a run on every candidate, one base in memory at a time.

    Args:
        records: The private images.
        task: What is asked.
        execution: What is to be done now.
        public_data: Images that need no protection.
        place: The owner's ledger.
        on_stage: Called with a line for every stage, and with remarks.

    Returns:
        The candidates in the order of the vote, and what releases may say.

    Raises:
        SfumatoError: One of them does not fit, or would cost something else.
    """  # noqa: DOC501 (named makes a SfumatoError)
    found: list[Candidate] = []
    lists: list[Listed] = []
    said: set[str] = set()
    for one in tasks_of(task, execution):
        name = Path(one.base).name
        on_stage(f"preparing a run on {name}")
        try:
            prepared = prepare_as_asked(records, one, public_data, place, on_stage)
            require_alike_plan(prepared)
            hope = f"forecast on {name}: {outlook(prepared).sentence}"
            remarks = remarks_on(prepared, records)
            for remark in (*remarks, hope):
                if remark not in said:
                    on_stage(f"note: {remark}")
            said.update(remarks)
            require_worth(prepared, task.privacy.anyway)
            lists.append(published(prepared))
            prepared = fit_to_machine(prepared, runs=True)
            prepared.method.check(prepared, on_stage)
        except SfumatoError as error:
            raise named(error, name) from error
        found.append(Candidate.of(one.base, prepared))
    require_one_price([one.plan for one in found])
    return found, all_published(lists)


def open_on_candidates(
    output: Path,
    candidates: list[Candidate],
    records: RecordSet,
    place: str | Path,
    on_stage: Told,
    private: dict[str, bytes],
) -> Start:
    """The run folder, charged once for votes and training together.

    Args:
        output: The run folder.
        candidates: Of `candidates_for`.
        records: The private images.
        place: The owner's ledger.
        on_stage: Called with a line.
        private: Further files of the folder.

    Returns:
        Where the attempt begins.
    """
    ancestors = {a["run"]: a for one in candidates for a in one.ancestors}

    def facts_of(run: Run, records: RecordSet) -> CertificateFacts:
        return certificate_facts(run, records, tuple(ancestors.values()))

    sampling = Sampling(steps=SAMPLER_STEPS, seed=int(candidates[0].options["seed"]))
    tables = [features_of(one.name, [""], PICTURES, sampling, on_stage) for one in candidates]
    asked = (records, place, facts_of, on_stage, private)
    return open_choice(output, candidates, TODAY.table_of(tables), *asked)


def chosen(run: Run, records: RecordSet, start: Start, on_stage: Told) -> tuple[Run, Prepared[Any]]:
    """The votes, and the run on the base that they chose."""
    run = ranks.on_first_rank(lambda: choose_base(run, records, start, on_stage))
    prepared = share_base(rebuild(run.plan, run.options, None, run.start, to_share=True))
    prepared.method.check(prepared, on_stage)
    return run, prepared
