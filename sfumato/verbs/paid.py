"""A question that is asked once, without a run: its terms, its price, its rows in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SfumatoError
from ..options.privacy import usual_delta
from ..privacy import accounting, calibration
from ..privacy import events as dp_events
from ..privacy.ledger.entries import Charge, Charged, Planned
from ..privacy.ledger.rows import canonical
from ..privacy.ledger.runs import RunLedger
from ..records import RecordSet
from ..runs import budget


def terms_for(
    records: RecordSet, delta: float | None, relation: str, known: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns unit, relation and delta: as asked, as charged before on these images, or as usual.

    Raises:
        SfumatoError: A delta out of range.
    """
    if delta is None:
        delta = known["delta"] if known else usual_delta(records.n_units)
    if not (isinstance(delta, (int, float)) and 0 < delta < 1):
        raise SfumatoError(f"--delta {delta}: must be above 0 and below 1")
    return {"unit": records.unit_column or "record", "relation": relation, "delta": float(delta)}


def priced(
    epsilon: float, terms: Mapping[str, Any], count: int = 1
) -> tuple[dp_events.Gaussian, float]:
    """Returns `count` Gaussian mechanisms that epsilon pays for together, and their exact cost.

    Raises:
        SfumatoError: Nothing costs so little.
    """
    delta, relation = terms["delta"], terms["relation"]
    try:
        noise = calibration.calibrate((), 1.0, count, epsilon, delta, relation)
        event = dp_events.Gaussian(noise, count)
        return event, accounting.epsilon_of((event,), delta, relation)
    except (ValueError, TypeError) as error:
        raise SfumatoError(f"--epsilon {epsilon}: {error}") from error


def charge(
    own: RunLedger,
    records: RecordSet,
    terms: Mapping[str, Any],
    event: dp_events.Gaussian,
    epsilon: float,
    plan: Mapping[str, Any],
    doubtful: int,
    ancestors: Sequence[dict[str, Any]] = (),
) -> Charged:
    """Writes the plan and charges the images' group, durably, before one of them is looked at.

    Args:
        own: The question's own number in the ledger.
        records: The private images.
        terms: Of `terms_for`.
        event: What is asked of them.
        epsilon: What it costs.
        plan: What is asked, with its `kind`; fields that a PLAN row has not are in its digest.
        ancestors: Runs that what is asked about comes from.
        doubtful: Values of the unit column that may be spellings of one another.

    Returns:
        The charge, as it is in the ledger.

    Raises:
        SfumatoError: The cap, or earlier charges, do not allow it.
    """  # noqa: DOC501 (in_words makes a SfumatoError)
    whole = {**plan, "epsilon": epsilon, **terms, "n_units": records.n_units}
    digest = hashlib.sha256(canonical(whole).encode("ascii")).hexdigest()
    known = ("kind", "runs", "epsilon", *terms, "n_units")
    row = {name: whole[name] for name in known if name in whole} | {"digest": digest}
    asked = Charge(
        events=dp_events.to_json((event,)),
        **terms,
        epsilon=epsilon,
        max_per_unit=1,
        plan=digest,
        sort=str(plan["kind"]),
        doubtful_units=doubtful or None,
        lineage=list(ancestors) or None,
    )
    try:
        own.enter(Planned.of_body(row))
        images = own.ledger.identify(records.fingerprints, **records.marks)
        made = own.ledger.charge(own.run_id, images, asked.to_body(), budget.price)
        return Charged.of_body(made.body)
    except ValueError as error:
        raise budget.in_words(error) from error
