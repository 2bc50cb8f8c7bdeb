"""`sfumato release` and `sfumato verify`: finish what leaves, and check what arrived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..errors import CheckFailed
from .options import Ledger


def release(
    folder: Annotated[
        Path, Argument(metavar="FOLDER", help="Folder of `sfumato synthesize` or `sfumato export`.")
    ],
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            "--output-dir",
            help="A new folder; default: finish the folder in place.",
        ),
    ] = None,
    title: Annotated[str | None, Option("--title", help="Public title on the cards.")] = None,
    license: Annotated[
        str, Option("--license", "--licence", help="Licence you give the release.")
    ] = "other",
    require_audit: Annotated[
        bool,
        Option(
            "--require-audit",
            help="Refuse (exit code 15) unless the run passed `sfumato audit` before.",
        ),
    ] = False,
    ledger: Ledger = None,
    without_ledger: Annotated[
        bool,
        Option(
            "--without-ledger",
            help=(
                "The ledger is gone: the draft is not compared with it. Recorded; refused where it"
                " is there."
            ),
        ),
    ] = False,
) -> None:
    """Cards, privacy statement, certificate, report, verifier and hashes: a folder to hand over.

    \b
    sfumato release release
    sfumato release release --title "Synthetic scans" --license cc-by-4.0 -o scans-release
    sfumato release release --require-audit
    """
    # The rooms themselves instead of `verbs`: they need neither torch nor diffusers, so they answer
    # at once.
    from ..runs.release import finish

    settings = {"title": title, "licence": license, "require_audit": require_audit}
    finished = finish(folder, output, ledger=ledger, without_ledger=without_ledger, **settings)
    if without_ledger:
        print(
            "not compared with the ledger: that this draft is the one which was certified, and what"
            " it says of unit and cost;"
        )
        print(
            "how many looks at exact scores there were, and later choices among runs, are not"
            " known, and the certificate says so"
        )
    for line in weaknesses(json.loads((finished / "privacy.json").read_text("utf-8"))):
        print(line)
    print(f"{finished}: finished; open {finished / 'report.html'}")
    print(f"next: sfumato verify {finished}")


def weaknesses(facts: dict) -> list[str]:
    """What the owner should know of a finished certificate before handing it over, a line each."""
    said = []
    audit, looks = facts.get("audit", {}), facts.get("looks", {}).get("exact")
    if audit.get("run") and not audit.get("passed"):
        said.append(
            "WARNING: the run's audit FAILED, and the certificate says so: find out why before you"
            " hand this over"
        )
    if looks:
        said.append(
            f"note: PRIVACY.md says that it was chosen after {looks}"
            f" {'look' if looks == 1 else 'looks'} at exact private scores"
        )
    said += [
        f"note: PRIVACY.md lists a weakening: {sentence}"
        for sentence in facts.get("not_private", {}).get("opt_ins", [])
    ]
    return said


def verify(
    folder: Annotated[
        Path, Argument(metavar="RELEASE", help="A finished release, yours or a stranger's.")
    ],
    ledger: Annotated[
        Path | None,
        Option(
            "--ledger",
            metavar="FILE",
            help="Compare it with your ledger too, if it is your own release.",
        ),
    ] = None,
) -> None:
    """Check every hash and price epsilon again from privacy.json alone. Exit code 1 if a check
    fails.

    \b
    sfumato verify release
    sfumato verify release --ledger ledger.sqlite
    """
    from ..runs.certified import verify as check

    report = check(folder, ledger)
    for name, passed, detail in report.checks:
        print(f"{'ok  ' if passed else 'FAIL'}  {name}" + (f": {detail}" if detail else ""))
    if not report.ok:
        first = report.failed[0][0]
        raise CheckFailed(
            f"{len(report.failed)} of {len(report.checks)} checks failed, first {first!r}: do not"
            " rely on it"
        )
    print(f"PASS: {len(report.checks)} checks")
