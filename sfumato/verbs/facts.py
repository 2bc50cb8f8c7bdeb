"""What the certificate of a run is built from, and the base that it trained."""

from __future__ import annotations

from collections.abc import Sequence

from ..bases import Base, open_adapted
from ..privacy.ledger.entries import TakenAsPublic
from ..privacy.ledger.notes import Audited
from ..runs.folder import Run, code_version
from ..runs.inversion import exact_controls
from ..runs.looks import looks_of, selections_of
from ..runs.preflight import kept_prices
from ..runs.prepared import original_base


def adapted_base(run: Run) -> Base:
    """The base with the run's released changes in it."""
    return open_adapted(run.model, lambda: original_base(run.plan))


def _certificate_facts(
    run: Run, records=None, ancestors: Sequence[dict] = (), keep_key: bool = False
) -> dict:
    """What the certificate is built from; before the charge, with `records` and `ancestors`, what
    it will be built from.
    """
    internal = sorted(p.stem for p in (run.folder / "evaluation").glob("*.json")) + exact_controls(
        run
    )
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
            "audits_failed": sum(not audited.passed for audited in run.ledger.entries(Audited)),
            "public_inputs": run.ledger.entries(TakenAsPublic),
            "lineage": run.lineage,
            **run.options["statements"],
        },
    }
