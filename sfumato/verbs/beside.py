"""Other runs in an evaluation, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import SfumatoError
from ..runs.folder import Run


def promise(run: Run) -> dict[str, Any]:
    """What a run beside another guarantees, for the table."""
    plan = run.plan
    return {
        name: getattr(plan, name) for name in ("method", "epsilon", "delta", "unit", "relation")
    }


def runs_beside(run: Run, beside: Sequence[Run | str | Path]) -> dict[str, Run]:
    """Returns row name -> run.

    Raises:
        SfumatoError: A run whose images or privacy parameters cannot be compared with `run`'s.
    """
    found: dict[str, Run] = {}
    for other in (o if isinstance(o, Run) else Run.open(o) for o in beside):
        name = f"{other.plan.method} at epsilon {other.plan.epsilon:.3g}"
        while name in found:
            name += ", again"
        for what in ("classes", "base_digest", "unit", "relation", "delta"):
            if getattr(other.plan, what) != getattr(run.plan, what):
                raise SfumatoError(
                    f"--beside {other.folder}: its {what} differs from that of {run.folder}, so the"
                    " two cannot be compared"
                )
        known = other.ledger_path == run.ledger_path
        if known and other.id not in {charge["run"] for charge in run.group().charges}:
            raise SfumatoError(
                f"--beside {other.folder}: it was adapted to other images than {run.folder}"
            )
        found[name] = other
    return found
