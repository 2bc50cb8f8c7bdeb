"""`audit`: whether the mechanisms do what the plan states, on dummy data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ..compute.device import using
from ..compute.threads import use_threads
from ..errors import SfumatoError
from ..options import Machine, gather, takes
from ..verbs.keywords import MachineOptions
from . import report
from .checks import CHECKS, Settings, run_checks
from .finding import Finding

if TYPE_CHECKING:
    from ..runs.folder import Run


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, and the sentences that must be printed with it."""

    findings: tuple[Finding, ...]
    settings: Settings

    @property
    def passed(self) -> bool:
        """Whether there were findings and all of them passed."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that did not pass."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def lines(self) -> list[str]:
        """The verdict, how often correct code would fail, and what an audit cannot prove."""
        return report.summary(self.findings, self.settings)


@takes(machine=Machine)
def audit(
    run: Run | str | Path | None = None,
    *,
    only: Sequence[str] | None = None,
    quick: bool = False,
    fresh: bool = False,
    seed: int = 0,
    ledger: str | Path | None = None,
    on_finding: Callable[[Finding], None] | None = None,
    on_stage: Callable[[str], None] = lambda line: None,
    **options: Unpack[MachineOptions],
) -> AuditReport:
    """Replay the mechanisms on dummy neighbours, measure noise and draws, send canaries.

    With a run: its own plan, model, precision and sampling rate. No image, latent, weight or key of
    the run is opened. The result goes to `audit.json` in the run folder and its hash into the
    ledger; certificates made after it state it.

    Args:
        run: A run, or its folder; None for the installed package on dummy models.
        only: Names of checks; None for all.
        quick: Fewer dummy models, without a run only.
        fresh: New seeds instead of the fixed ones; the report says which.
        seed: Seed of all dummy data and keys.
        ledger: Where the run's ledger is, if it was moved.
        on_finding: Called with every finding when it is there.
        on_stage: Called with how far the checks are.
        options: Fields of `Machine`, or one as `machine`.

    Returns:
        The report; an audit with failures is returned as well, see `AuditReport.passed`.

    Raises:
        SfumatoError: A check that there is not, a folder that is no run, a base that has changed.
    """
    for name in only or ():
        if name not in CHECKS:
            raise SfumatoError(f"--only {name}: choose {', '.join(CHECKS)}")
    machine: Machine = gather({"machine": Machine}, options)["machine"]
    settings = Settings(seed=report.fresh_seed() if fresh else seed, quick=quick)
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)

    use_threads(None)
    with using(machine.device):
        if run is None:
            run_checks(only, settings, on_finding=found, on_stage=on_stage)
        else:
            from ..runs.folder import Run
            from .on_run import audit_run

            opened = run if isinstance(run, Run) else Run.open(Path(str(run)), ledger)
            audit_run(opened, settings, names=only, on_finding=found, on_stage=on_stage)
    return AuditReport(tuple(findings), settings)
