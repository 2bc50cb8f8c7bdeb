"""`sfumato release` and `sfumato verify`: finish what leaves, and check what arrived."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import CheckFailed


def release(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Folder of `sfumato synthesize` or `sfumato export`.")],
    output: Annotated[
        Path | None, Option("--output", "-o", "--output-dir", help="A new folder; default: finish the folder in place.")
    ] = None,
    title: Annotated[str | None, Option("--title", help="Public title on the cards.")] = None,
    license: Annotated[str, Option("--license", "--licence", help="Licence you give the release.")] = "other",
    require_audit: Annotated[
        bool, Option("--require-audit", help="Refuse (exit code 15) unless the run passed `sfumato audit` before.")
    ] = False,
) -> None:
    """Cards, privacy statement, certificate, report, verifier and hashes: a folder to hand over.

    \b
    sfumato release release
    sfumato release release --title "Synthetic scans" --license cc-by-4.0 -o scans-release
    sfumato release release --require-audit
    """
    # The room itself instead of `verbs`: it needs neither torch nor diffusers, so it answers at once.
    from ..releases import finalise

    finished = finalise(folder, output, title=title, licence=license, require_audit=require_audit)
    print(f"{finished}: finished; open {finished / 'report.html'}")
    print(f"next: sfumato verify {finished}")


def verify(
    folder: Annotated[Path, Argument(metavar="RELEASE", help="A finished release, yours or a stranger's.")],
) -> None:
    """Check every hash and price epsilon again from privacy.json alone. Exit code 1 if a check fails.

    \b
    sfumato verify release
    """
    from ..releases import verify as check

    report = check(folder)
    for name, passed, detail in report.checks:
        print(f"{'ok  ' if passed else 'FAIL'}  {name}" + (f": {detail}" if detail else ""))
    if not report.ok:
        first = report.failed[0][0]
        raise CheckFailed(
            f"{len(report.failed)} of {len(report.checks)} checks failed, first {first!r}: do not rely on it"
        )
    print(f"PASS: {len(report.checks)} checks")
