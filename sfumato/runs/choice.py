"""A run whose private images choose its base: every candidate's plan is kept, and one is followed.

All of them cost the same and are tried and charged before an image is looked at. The answer is a
row of the ledger; whoever opens the run then finds the plan of the base that was chosen.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch

from ..bases import base_info
from ..errors import SfumatoError
from ..privacy.ledger.notes import Matched
from ..privacy.mechanisms.base_vote import STEP, BaseVote
from ..privacy.plan import Plan
from ..records import RecordSet
from ..releases import CertificateFacts
from . import budget
from .execute import Start
from .folder import CANDIDATE, START, Run, options_digest
from .lock import resumable, unless_charged
from .matching import bases_asked, comparison_of
from .preflight import preflight
from .prepared import rebuild

TABLE = "bases.npy"  # public: what the votes are asked with


class Planned(Protocol):
    """What is kept of a candidate (`planning.choosing.Candidate`)."""

    @property
    def plan(self) -> Plan: ...  # noqa: D102
    @property
    def options(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def start(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def public_inputs(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def ancestors(self) -> tuple[dict[str, Any], ...]: ...  # noqa: D102


def open_choice(
    output: Path,
    candidates: Sequence[Planned],
    table: np.ndarray,
    records: RecordSet,
    ledger: str | Path,
    facts_of: Callable[[Run, RecordSet], CertificateFacts],
    on_stage: Callable[[str], None],
    private: Mapping[str, bytes],
) -> Start:
    """As `execute.open_run`, for a run that does not know its base yet.

    Args:
        output: The folder.
        candidates: The plan of each base, in the order of the vote; all of one price.
        table: What stands for the bases, as `Comparison.table_of` made it.
        records: The private images.
        ledger: Path of the owner's ledger.
        facts_of: As there.
        on_stage: As there.
        private: As there.
    """
    asked_with, first = _bytes_of(table), candidates[0]
    digests = [[one.plan.digest, options_digest(one.options)] for one in candidates]
    choice = {"table": hashlib.sha256(asked_with).hexdigest(), "candidates": digests}
    files = {**private, TABLE: asked_with}
    for number, one in enumerate(candidates):
        name, body = CANDIDATE.format(number), {"plan": one.plan.to_json(), "options": one.options}
        files[f"{name}.json"] = json.dumps(body, indent=1).encode()
        if one.start:
            files[f"{name}-{START}"] = safetensors.torch.save(one.start)
    options = first.options | {"choice": choice}
    book = budget.open_ledger(ledger)
    run = Run.create(output, first.plan, options, book, first.start, files)
    ancestors: dict[str, dict[str, Any]] = {}
    with unless_charged(run):
        for number, one in enumerate(candidates):
            own = run.decided(number)
            on_stage(f"trying what would follow on {Path(one.plan.base).name}")
            prepared = rebuild(own.plan, own.options, None, own.start)
            preflight(own, prepared, records.n, facts_of(own, records), on_stage)
            ancestors |= {ancestor["run"]: ancestor for ancestor in one.ancestors}
        # the votes look at the pictures of all candidates, so all their pasts count
        run.charge(records, first.public_inputs, tuple(ancestors.values()))
    with resumable():
        return Start(0, run.begin(records, 0))


def choose_base(run: Run, records: RecordSet, start: Start, on_stage: Callable[[str], None]) -> Run:
    """Asks the images once, notes the answer, and returns the run with the plan of that base.

    A process that dies before the note asks again with the same noise, so that the answer is the
    same; once noted it is never asked again.

    Args:
        run: Charged and begun.
        records: Its private images.
        start: Where the attempt begins.
        on_stage: Called with a line.
    """
    vote = run.plan.base_vote
    assert vote is not None and vote.noise_multiplier is not None
    run.require_charge()
    table, by = _table_of(run), comparison_of(vote.features, vote.rule)
    on_stage("asking the images for the base")
    key = run.key.for_attempt(start.salt)
    side = _side_of(vote)
    with resumable():
        votes = bases_asked(records, side, table, vote.noise_multiplier, key, STEP, by)
    chosen = vote.best(votes)
    answer = Matched(
        matched=[Path(name).name for name in vote.bases],
        shares=[float(share) for share in votes / run.plan.n_units],
        noise_multiplier=vote.noise_multiplier,
        features=vote.features,
        rule=vote.rule,
        chosen=chosen,
        attempt=start.attempt,
    )
    run.record(answer)
    on_stage(f"note: the images chose the base {Path(vote.bases[chosen]).name}")
    return run.decided(chosen)


def _side_of(vote: BaseVote) -> int:
    """Pixels a side at which images are read, which all candidates have.

    SfumatoError where the first is another base by now: its size would be another question.
    """
    info = base_info(vote.bases[0])
    if info.digest != vote.digests[0]:
        raise SfumatoError(f"{vote.bases[0]} is not the base that was planned with: put it back")
    return info.resolution


def _bytes_of(table: np.ndarray) -> bytes:
    place = io.BytesIO()
    np.save(place, table, allow_pickle=False)
    return place.getvalue()


def _table_of(run: Run) -> np.ndarray:
    """What was planned to ask with.

    SfumatoError for others, which would be another question under the same noise.
    """
    try:
        blob = (run.folder / TABLE).read_bytes()
    except OSError as error:
        raise SfumatoError(f"{TABLE} of the run cannot be read: put it back") from error
    if hashlib.sha256(blob).hexdigest() != run.options["choice"]["table"]:
        raise SfumatoError(f"{TABLE} of the run was altered: put the original back")
    return np.load(io.BytesIO(blob), allow_pickle=False)
