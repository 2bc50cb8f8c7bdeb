"""Whether the ledger would refuse a plan: the rule of the charge, asked before it."""

from __future__ import annotations

from typing import Any

from ..methods import Prepared
from ..privacy import events
from ..privacy.ledger.charges import OverBudget
from ..privacy.ledger.ledger import Ledger
from ..records import RecordSet
from ..runs import budget


def refusal(book: Ledger, records: RecordSet, prepared: Prepared[Any]) -> str | None:
    """Why `adapt` would be refused, or None if it would be charged.

    The cap on these images, or terms that do not add up with those of earlier runs.
    """
    plan = prepared.plan
    terms = ("unit", "relation", "delta", "epsilon", "max_per_unit")
    body = {name: getattr(plan, name) for name in terms}
    body["events"] = events.to_json(plan.events)
    if prepared.ancestors:
        body["lineage"] = list(prepared.ancestors)
    manifest = book.identify(records.fingerprints, **records.marks)
    body["listing"] = manifest.listing
    try:
        book.charges.fitting(book.group(manifest), body, budget.price, manifest)
    except OverBudget as error:
        return str(error)
    except ValueError as error:
        raise budget.in_words(error) from error
    return None
