"""`sfumato audit`: do the mechanisms do what the plan says, on dummy data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import AuditFailed
from ..options import parse
from .options import Ledger


def audit(
    run: Annotated[
        Path | None,
        Argument(
            metavar="[RUN]", help="Folder of `sfumato adapt`; without it, the package itself."
        ),
    ] = None,
    only: Annotated[
        str | None, Option("--only", metavar="A,B,..", help="Names of checks (default: all).")
    ] = None,
    quick: Annotated[
        bool, Option("--quick", help="Fewer dummy models (without a run only).")
    ] = False,
    fresh: Annotated[
        bool, Option("--fresh", help="New seeds instead of the fixed ones; they are printed.")
    ] = False,
    seed: Annotated[int, Option("--seed", min=0, help="Seed of all dummy data and keys.")] = 0,
    ledger: Ledger = None,
) -> None:
    """Replay the mechanisms on dummy neighbours, measure noise and draws, send canaries. Exit
    code 15 if a check fails.

    With RUN: the run's own plan, model, precision and sampling rate. No image, latent, weight or
    key of the run is opened. The result goes to RUN/audit.json; certificates made after it state
    it.

    \b
    sfumato audit
    sfumato audit run
    sfumato audit run --only M1,A,B --fresh
    """
    from ..auditing import report
    from ..auditing.verb import audit as check

    found = check(
        run,
        only=None if only is None else parse.listed(only),
        quick=quick,
        fresh=fresh,
        seed=seed,
        ledger=ledger,
        on_finding=report.print_row,
    )
    for line in found.lines:
        print(line)
    if run is not None:
        print(f"{run / 'audit.json'}: written; `sfumato release --require-audit` asks for it")
    if found.failed:
        raise AuditFailed(
            f"{len(found.failed)} findings failed: the guarantee of this installation is in doubt"
        )
