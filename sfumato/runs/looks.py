"""Looks: exact figures of private images that somebody sees.

They are rows of the ledger, and later certificates state how many there were. Also choices by noisy
accuracies, which are paid for and are no looks; and the step at which an owner ended a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SfumatoError
from ..privacy.ledger.datasets import Group
from ..privacy.ledger.entries import Charged, Looked, Selected
from ..privacy.ledger.ledger import Ledger
from ..privacy.ledger.notes import Stopped
from ..releases import DRAFT, choice_facts, looks_facts, stopped_facts
from . import budget

ON_PUBLIC = "exact figures that the owner saw (evaluate --public-test)"

if TYPE_CHECKING:
    from ..records import RecordSet
    from .folder import Run


def record_look(run: Run, what: Sequence[str], *seen: RecordSet, rows: Sequence[str] = ()) -> None:
    """Notes exact figures that no epsilon pays for, durably and before they are computed.

    what: kinds of figures ("accuracy", "distances", ...); `seen`: the private records they are
    computed from, kept as keyed hashes (none: the run's own images); rows: what was compared.
    SfumatoError, and nothing may be computed, if the ledger cannot be written.
    """
    ledger = run.ledger.ledger
    look = Looked(what=list(what), rows=list(rows), internal=True)
    try:
        manifests = [ledger.identify(records.fingerprints, **records.marks) for records in seen]
        run.ledger.look(manifests, look)
    except ValueError as error:
        raise budget.in_words(error) from error


def record_public(run: Run, records: RecordSet) -> None:
    """Notes images that are declared public, durably and before a figure is computed.

    They are never private again. DataError if the ledger knows one of them as private.
    """
    ledger = run.ledger.ledger
    try:
        taken = run.ledger.take_public(
            ON_PUBLIC, ledger.identify(records.fingerprints, **records.marks)
        )
    except ValueError as error:
        raise budget.in_words(error) from error
    if not taken:
        raise DataError(
            "images that are said to be public are known to the ledger as private: leave"
            " --public-test out (`sfumato evaluate` then records a look)"
        )


def looks_of(run: Run, charged: Group | None = None) -> dict[str, Any]:
    """The certificate's facts on exact figures of this run, its images, or other runs on them.

    Before the charge, of the group that it would make (`facts.group_with`).
    """
    # Before looks had rows, an evaluation left its file alone.
    old = [
        p
        for p in (run.folder / "evaluation").glob("*.json")
        if '"in_ledger"' not in p.read_text("utf-8", "replace")
    ]
    group = run.group() if charged is None else charged
    return looks_facts(group.looks + len(old))


def looks_since(folder: Path, ledger: str | Path | None = None) -> dict[str, Any]:
    """Fields of the certificate of a draft that is about to be released, as of now.

    None if no ledger at hand knows its run. ledger: its path; default: as in the draft, or the
    user's own. SfumatoError if the draft's total lacks a selection, or outputs of earlier runs.
    """
    try:
        draft = json.loads((folder / DRAFT).read_text("utf-8"))
        facts = draft["certificate"]
        run_id, before = facts["ledger"]["run"], facts.get("looks", {}).get("exact", 0)
        entries, told = (facts["ledger"].get(name) for name in ("entries", "total_epsilon"))
        place = Path(ledger or draft.get("ledger") or budget.default_path(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # `finalise` says what is wrong with the draft
    if not place.exists() or not isinstance(run_id, str):
        return {}
    known = budget.open_ledger(place)
    charged = known.chain.entries(Charged, run_id)
    if not charged:
        return {}
    own = frozenset({charged[0].dataset})
    now = known.datasets.group(own).looks
    _require_total(known.datasets.group(own, entries), told)
    choices = selections_of(known, run_id)
    listed = {charge.get("run") for charge in facts["ledger"].get("charges", ())}
    if any(choice["composes"] and choice["id"] not in listed for choice in choices):
        raise SfumatoError(
            "a selection on images of this run's group was charged after this folder was made, and"
            " its total does not count it: synthesize or export again"
        )
    return {"looks": looks_facts(max(now, before)), "selections": choices}


def _require_total(group: Group, stated: float | None) -> None:
    """SfumatoError for a total of an earlier version, which counted fewer outputs."""
    if len(group.charges) > 1 and stated is not None and stated < budget.cost(group) - 1e-3:
        raise SfumatoError(
            "the total of this folder is an earlier version's, which counted fewer outputs of the"
            " runs before it: synthesize or export again"
        )


def selections_of(ledger: Ledger, run_id: str, before: int | None = None) -> list[dict[str, Any]]:
    """Choices by noisy accuracies in which a run took part, oldest first.

    As certificates state them; as it was `before` that row.
    """
    return [
        choice_facts(run_id, choice, ledger.chain.entries(Charged, row.run_id)[0], row.run_id)
        for row, choice in ledger.chain.entered(Selected)
        if run_id in choice.runs and (before is None or row.seq < before)
    ]


def stopped_of(notes: Sequence[Stopped], steps: int) -> dict[str, Any] | None:
    """The certificate's fact of a run that its owner ended early; None for any other."""
    return stopped_facts(notes[-1].stopped, steps) if notes else None
