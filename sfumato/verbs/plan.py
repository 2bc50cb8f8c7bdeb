"""`inspect` and `plan`: what lies in a folder, and what a run on it would promise and cost; nothing
is charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..methods.inversion.advisor import Forecast
from ..planning.estimate import Estimate, estimate
from ..planning.inputs import (
    Source,
    on_terms,
    prepare_as_asked,
    records_of,
    split,
    unlabelled_if_flat,
)
from ..planning.warnings import remarks_on
from ..privacy.plan import Plan
from ..records import Summary, describe
from ..runs import budget
from ..runs.inversion import expectation


@dataclass(frozen=True)
class PlanReport:
    """A plan, what it will take here, and remarks for the person who reads it; of an inversion also
    what it will be worth.
    """

    plan: Plan
    estimate: Estimate
    remarks: tuple[str, ...]
    forecast: Forecast | None = None


def inspect(path: Source, **reading: Any) -> Summary:
    """What is in a folder of private images. Everything in the answer is private: keep it on this
    machine.

    `reading`: labels, unit, caption_column, classes, max_bad, unlabelled, yes_public as in
    `records.load_records`.
    """
    return describe(records_of(path, reading))


def plan(
    path: Source, *, epsilon: float, ledger: str | Path | None = None, **options: Any
) -> PlanReport:
    """Mechanism, noise, steps, time, memory and expected signal-to-noise, before a pixel is read
    for training.

    epsilon: the target. ledger: as in `adapt`; it is looked at, never made. Other options as in
    `sfumato.planning.prepare.prepare` and `records.load_records`; `public_data`, images that need
    no protection, for `choose="public"` and `adapter_init="public"`. Raises SfumatoError where the
    target cannot be met, saying what would.
    """
    reading, preparing = split(options)
    records = records_of(path, unlabelled_if_flat(path, reading, preparing))
    place, remarks = Path(ledger or budget.default_path()), ()
    if place.exists():
        known = budget.standing(
            budget.open_ledger(place),
            records.fingerprints,
            **records.marks,
            unit=records.unit_column or "record",
        )
        preparing = on_terms(preparing, known)
        remarks = (known.remark,) if known.remark else ()
    prepared = prepare_as_asked(records, epsilon, preparing, place if place.exists() else None)
    expected = None if prepared.adaptation.inversion is None else expectation(prepared)
    remarks += remarks_on(prepared, records)
    return PlanReport(prepared.plan, estimate(prepared), remarks, expected)
