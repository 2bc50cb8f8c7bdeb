"""`sfumato release` and `sfumato verify`: finish a release folder, and check one."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Argument, Option

from ..errors import CheckFailed, MachineError, SfumatoError
from ..options import listening
from .config import from_config
from .live import LiveLine
from .options import Ledger


@from_config("release")
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
            help="A new folder (default: finish FOLDER in place).",
        ),
    ] = None,
    title: Annotated[str | None, Option("--title", help="Public title of the release.")] = None,
    licence: Annotated[
        str | None,
        Option("--license", "--licence", help="Licence that you give the release (default other)."),
    ] = None,
    base_model: Annotated[
        str | None,
        Option(
            "--base-model",
            metavar="ORG/NAME",
            help="Name of the base on the hub, for a model's card (your word, not checked).",
        ),
    ] = None,
    require_audit: Annotated[
        bool,
        Option(
            "--require-audit",
            help="Refuse (exit code 15) unless the run passed `sfumato audit` first.",
        ),
    ] = False,
    ledger: Ledger = None,
    without_ledger: Annotated[
        bool,
        Option(
            "--without-ledger",
            help=(
                "The ledger is lost: do not compare the draft with it. Recorded in the certificate;"
                " refused if the ledger is there."
            ),
        ),
    ] = False,
) -> None:
    """Finish a folder to hand over: cards, privacy statement, certificate, report, hashes.

    \b
    sfumato release release
    sfumato release release --title "Synthetic scans" --license cc-by-4.0 -o scans-release
    sfumato release release --require-audit
    """
    # The rooms themselves instead of `verbs`: they need neither torch nor diffusers, so they answer
    # at once.
    from ..runs.release import finish

    settings = {"title": title, "licence": licence or "other", "base_model": base_model}
    settings |= {"require_audit": require_audit}
    with LiveLine() as line, listening(line.stage):
        line.stage("checking the files")
        finished = finish(folder, output, ledger=ledger, without_ledger=without_ledger, **settings)
    if without_ledger:
        print(
            "without the ledger, nobody checked that this draft, its unit and its cost are the ones"
            " that were certified"
        )
        print(
            "the number of looks at exact scores and later choices among runs are unknown, and the"
            " certificate states that"
        )
    for line in weaknesses(json.loads((finished / "privacy.json").read_text("utf-8"))):
        print(line)
    print(
        f"{finished}: finished; read {finished / 'PRIVACY.html'} (the page to print and sign) and"
        f" {finished / 'report.html'} before you hand it over"
    )
    print(f"next: sfumato verify {quote(str(finished))}")


def weaknesses(facts: dict) -> list[str]:
    """What the owner should know of a finished certificate before handing it over, a line each."""
    said = []
    audit, looks = facts.get("audit", {}), facts.get("looks", {}).get("exact")
    if audit.get("run") and not audit.get("passed"):
        said.append(
            "WARNING: the run's audit FAILED, and the certificate states it: find out why before"
            " you hand this over"
        )
    if looks:
        said.append(
            f"note: PRIVACY.md states {looks} {'look' if looks == 1 else 'looks'} at exact private"
            " scores before this release"
        )
    said += [
        f"note: PRIVACY.md lists a weakening: {sentence}"
        for sentence in facts.get("not_private", {}).get("opt_ins", [])
    ]
    return said


@from_config("verify")
def verify(
    folder: Annotated[
        Path, Argument(metavar="RELEASE", help="A finished release, your own or one you received.")
    ],
    ledger: Annotated[
        Path | None,
        Option(
            "--ledger",
            metavar="FILE",
            help="Also compare it with your ledger, if the release is your own.",
        ),
    ] = None,
    registry_entry: Annotated[
        Path | None,
        Option(
            "--registry-entry",
            metavar="FILE",
            help=(
                "If it passes, also write a draft for the registry of deployments"
                " (registry.opendp.org), made from privacy.json alone."
            ),
        ),
    ] = None,
) -> None:
    """Check every hash and compute epsilon again from privacy.json. Exit code 1 if a check fails.

    \b
    sfumato verify release
    sfumato verify release --ledger ledger.sqlite
    sfumato verify release --registry-entry entry.yaml
    """
    from ..runs.certified import verify as check

    if registry_entry is not None and registry_entry.exists():
        raise SfumatoError(f"{registry_entry} already exists: name a new file")
    with LiveLine() as line:
        line.stage("hashing the files and pricing the claim again")
        report = check(folder, ledger)
    for name, passed, detail in report.checks:
        print(f"{'ok  ' if passed else 'FAIL'}  {name}" + (f": {detail}" if detail else ""))
    if not report.ok:
        first = report.failed[0][0]
        raise CheckFailed(
            f"{len(report.failed)} of {len(report.checks)} checks failed, the first is {first!r}:"
            " do not rely on this release"
        )
    print(f"PASS: {len(report.checks)} checks")
    if registry_entry is not None:
        _write_entry(folder, registry_entry)


def _write_entry(folder: Path, file: Path) -> None:
    from ..releases.registry import FILL_IN, to_yaml

    text = to_yaml(json.loads((folder / "privacy.json").read_text("utf-8")))
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise MachineError(f"cannot write {file}: {error.strerror or error}") from None
    print(f"{file}: a draft; {text.count(FILL_IN)} places say {FILL_IN}")
