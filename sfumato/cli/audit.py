"""`sfumato audit`: do the mechanisms do what the plan says, on made-up data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import AuditFailed, SfumatoError
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
        bool, Option("--quick", help="Fewer made-up models (without a run only).")
    ] = False,
    fresh: Annotated[
        bool, Option("--fresh", help="New seeds instead of the fixed ones; they are printed.")
    ] = False,
    seed: Annotated[int, Option("--seed", min=0, help="Seed of all made-up data and keys.")] = 0,
    ledger: Ledger = None,
) -> None:
    """Replay the mechanisms on made-up neighbours, measure noise and draws, send canaries. Exit
    code 15 if a check fails.

    With RUN: the run's own plan, model, precision and sampling rate. No image, latent, weight or
    key of the run is opened. The result goes to RUN/audit.json; certificates made after it state
    it.

    \b
    sfumato audit
    sfumato audit run
    sfumato audit run --only M1,A,B --fresh
    """
    from ..audit import CHECKS, Settings, report, run_checks

    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    for name in names or ():
        if name not in CHECKS:
            raise SfumatoError(f"--only {name}: choose {', '.join(CHECKS)}")
    settings = Settings(seed=report.fresh_seed() if fresh else seed, quick=quick)
    if run is None:
        findings = run_checks(names, settings, on_finding=report.print_row)
        for line in report.summary(findings, settings):
            print(line)
        failed = sum(not finding.passed for finding in findings)
    else:
        from ..audit.on_run import audit_run
        from ..runs.folder import Run

        opened, findings = Run.open(run, ledger), []

        def on_finding(finding) -> None:
            findings.append(finding)
            report.print_row(finding)

        audit_run(opened, settings, names=names, on_finding=on_finding)
        for line in report.summary(findings, settings):
            print(line)
        print(f"{run / 'audit.json'}: written; `sfumato release --require-audit` asks for it")
        failed = sum(not finding.passed for finding in findings)
    if failed:
        raise AuditFailed(
            f"{failed} findings failed: the guarantee of this installation is in doubt"
        )
