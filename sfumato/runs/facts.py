"""What the certificate of a run is built from: before the charge, and after the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..methods import METHODS, Prompts
from ..privacy import events as dp_events
from ..privacy.ledger.datasets import Group, inherited_charges
from ..privacy.ledger.entries import Attempt, Charge, Charged, Replayed, TakenAsPublic
from ..privacy.ledger.notes import Audited, Matched, Stopped
from ..releases import CertificateFacts, LedgerFacts, base_vote_facts
from . import budget
from .folder import Run, code_version
from .looks import looks_of, selections_of, stopped_of
from .preflight import kept_prices
from .prepared import method_of

if TYPE_CHECKING:
    from ..records import RecordSet


def certificate_facts(
    run: Run,
    records: RecordSet | None = None,
    ancestors: Sequence[dict[str, Any]] = (),
    *,
    keep_key: bool = False,
) -> CertificateFacts:
    """The facts of a run's certificate.

    Args:
        run: The run.
        records: Before the charge, the images that it will be charged for: then the facts are as
            if it were. None for a run that is charged.
        ancestors: Before the charge, the runs that base and public images come from.
        keep_key: Whether the run key outlives the certificate.
    """
    internal = sorted(p.stem for p in (run.folder / "evaluation").glob("*.json"))
    charged = None if records is None else group_with(run, records, ancestors)
    tokens = Prompts.of(run.options["prompts"]).tokens
    return CertificateFacts(
        plan=run.plan.to_json(),
        ledger=ledger_facts(run, charged),
        prices=kept_prices(run),
        run_key_id=run.key_id,
        code_version=code_version(),
        base=run.plan.base,
        base_digest=run.plan.base_digest,
        not_private=internal + METHODS[run.plan.method].exact_left(run.folder),
        selection=run.selection,
        token_starts={word: start for word, start in tokens.items() if start},
        looks=looks_of(run, charged),
        selections=selections_of(run.ledger.ledger, run.id),
        key_kept=keep_key,
        audit=run.audit,
        audits_failed=sum(not audited.passed for audited in run.ledger.entries(Audited)),
        public_inputs=run.ledger.entries(TakenAsPublic),
        lineage=lineage(run),
        stopped=stopped_of(run.ledger.entries(Stopped), run.plan.steps),
        base_vote=base_vote_of(run),
        afterwards=method_of(run.plan, run.options).afterwards,
        **run.options["statements"],
    )


def base_vote_of(run: Run) -> dict[str, Any] | None:
    """How the private images chose the base, as privacy.json states it; None where they did not.

    Before they have, as if all had chosen the one that is tried.
    """
    vote = run.plan.base_vote
    if vote is None:
        return None
    noted, bases = run.ledger.entries(Matched), [Path(name).name for name in vote.bases]
    own = vote.bases.index(run.plan.base)
    shares = [float(number == own) for number in range(len(bases))]
    if noted:
        shares = [float(share) for share in noted[-1].shares]
    return base_vote_facts(bases, vote.digests, shares, own)


def ledger_facts(run: Run, charged: Group | None = None) -> LedgerFacts:
    """The certificate's facts of the ledger.

    Before the charge, those of the group that it would make (`group_with`).
    """
    rows, group = run.ledger, run.group() if charged is None else charged
    total = budget.cost(group) if len(group.charges) > 1 else run.plan.epsilon
    said = ("run", "epsilon", "events")
    return LedgerFacts(
        head=rows.ledger.head,
        entries=len(rows.ledger.rows),
        attempts=rows.attempts,
        replays=len(rows.entries(Replayed)),
        trained_by=sorted({attempt.fingerprint["code"] for attempt in rows.entries(Attempt)}),
        events=rows.charged_events() or dp_events.to_json(run.plan.events),
        run=run.id,
        charges=[{name: charge[name] for name in said} for charge in group.charges],
        total_epsilon=total if math.isfinite(total) else None,
        adaptive=group.adaptive,
        no_total=group.unclear,
        # Charged before the ledger kept files and units: it knows images of those runs by their
        # pixels alone.
        known_by_pixels=sum(
            "listing" not in charge and "ancestor" not in charge for charge in group.charges
        ),
        cap=group.cap,
        data_sets=len(group.datasets),
        resets=rows.ledger.resets,
        file_systems=rows.ledger.file_systems,
    )


def group_with(run: Run, records: RecordSet, ancestors: Sequence[dict[str, Any]] = ()) -> Group:
    """The group that a charge on these records would make, with that charge in it.

    `ancestors`: as in `Run.charge`.
    """
    book = run.ledger.ledger
    try:
        manifest = book.identify(records.fingerprints, **records.marks)
        known = book.group(manifest)
    except ValueError as error:
        raise budget.in_words(error) from error
    asked = Charge(**run.cost(), lineage=list(ancestors) or None)
    own = {"run": run.id, "listing": manifest.listing, **asked.to_body()}
    charges = (*known.charges, own, *inherited_charges([own]))
    return replace(
        known,
        datasets=known.datasets | {manifest.id},
        charges=charges,
        adaptive=known.adaptive or known.released or bool(ancestors),
        unclear=book.datasets.unclear(charges, manifest),
    )


def lineage(run: Run) -> list[dict[str, Any]]:
    """The runs that base and public images come from, as the certificate names them.

    None before the charge. `counted`: whether the total holds their cost.
    """
    charges = run.ledger.entries(Charged)
    if not charges:
        return []
    counted = {charge["run"] for charge in run.group().charges}
    said = ("run", "owner", "through", "epsilon", "delta", "unit", "relation")
    said += ("head", "draft", "certificate")
    return [
        {name: a[name] for name in said if a.get(name) is not None}
        | {"counted": a["run"] in counted}
        for a in charges[0].lineage or ()
    ]
