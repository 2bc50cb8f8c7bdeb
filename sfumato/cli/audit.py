"""`sfumato audit`: whether the mechanisms do what the plan says, on dummy data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import AuditFailed, SfumatoError
from ..options import Machine, parse
from .config import from_config
from .live import LiveLine
from .options import Ledger, options


@from_config("audit")
@options(machine=(Machine,))
def audit(
    machine: dict,
    run: Annotated[
        Path | None,
        Argument(
            metavar="[RUN]", help="Run folder; without one, the installed package is audited."
        ),
    ] = None,
    only: Annotated[
        str | None,
        Option("--only", metavar="A,B,..", help="Names of the checks to run (default: all)."),
    ] = None,
    quick: Annotated[
        bool, Option("--quick", help="Fewer dummy models (without a run only).")
    ] = False,
    fresh: Annotated[
        bool, Option("--fresh", help="New seeds instead of the fixed ones; printed.")
    ] = False,
    seed: Annotated[int, Option("--seed", min=0, help="Seed of all dummy data and keys.")] = 0,
    pictures: Annotated[
        Path | None,
        Option(
            "--pictures",
            metavar="RELEASE",
            help=(
                "Instead: how near a release's pictures are to private and to held-out ones."
                " PRIVATE, and a look."
            ),
        ),
    ] = None,
    test: Annotated[
        Path | None,
        Option(
            "--test",
            help="With --pictures: held-out images (default: those of the run's split).",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        Option(
            "--train",
            help="With --pictures: the private images (default: those that the run remembers).",
        ),
    ] = None,
    ledger: Ledger = None,
) -> None:
    """Test on dummy data whether the mechanisms do what the plan says. Exit code 15 if not.

    Neighbouring data sets are replayed, noise and sampling are measured, canaries are inserted.
    With RUN, the run's own plan, model, precision and sampling rate are used; none of its images,
    latents, weights or keys is opened. The result is written to RUN/audit.json, and later
    certificates state it.

    \b
    sfumato audit
    sfumato audit run
    sfumato audit run --only M1,A,B --fresh
    sfumato audit run --pictures release
    """
    if pictures is not None:
        of_checks = {"only": only, "quick": quick, "fresh": fresh, "seed": seed}
        if said := [f"--{name}" for name, value in of_checks.items() if value]:
            raise SfumatoError(
                f"{said[0]} is of the checks, and --pictures runs none: leave it out"
            )
        _of_pictures(run, pictures, test, train, ledger, machine)
        return
    if test is not None or train is not None:
        raise SfumatoError("--test and --train go with --pictures RELEASE: add it")
    from ..auditing import report
    from ..auditing.verb import audit as check

    with LiveLine() as line:
        found = check(
            run,
            only=None if only is None else parse.listed(only),
            quick=quick,
            fresh=fresh,
            seed=seed,
            ledger=ledger,
            on_finding=report.print_row,
            on_stage=line.stage,
            **machine,
        )
    for line in found.lines:
        print(line)
    if run is not None:
        print(f"{run / 'audit.json'}: written; `sfumato release --require-audit` asks for it")
    if found.failed:
        raise AuditFailed(
            f"{len(found.failed)} {'finding' if len(found.failed) == 1 else 'findings'} failed:"
            " the guarantee of this installation is in doubt"
        )


def _of_pictures(
    run: Path | None,
    pictures: Path,
    test: Path | None,
    train: Path | None,
    ledger: Path | None,
    machine: dict,
) -> None:
    from ..runs.folder import Run
    from ..verbs.nearest import audit_pictures

    if run is None:
        raise SfumatoError("--pictures needs the run that drew them: sfumato audit RUN --pictures")
    with LiveLine() as line:
        opened = Run.open(run, ledger)
        said = {"test": test, "train": train, "on_stage": line.stage, **machine}
        found = audit_pictures(opened, pictures, **said)
    for sentence in found.verdict:
        print(sentence)
    print(f"PRIVATE: no epsilon covers these figures. They stay in {found.page.parent}.")
    print(f"open {found.page} to see the closest pictures beside the real ones")
    print(
        "this was a look at exact private scores: later certificates count it. What may be said"
        " outside are the odds of attacks in PRIVACY.md"
    )
