"""What an audit found: rows for a terminal, and the record that a certificate quotes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from ..errors import AuditFailed
from .checks import Settings
from .finding import Finding
from .statistics import noise_seen

FORMAT = "sfumato-audit/1"
FAILED = AuditFailed.exit_code
NO_PROOF = "A passed audit does not prove differential privacy."
NOISE_SEEN = "Noise below 99 % of the claim would have been found with probability 99.9 %."
READING = "The lower bound is a reading, not the guarantee."


def enough(finding: Finding) -> bool:
    """Whether a finding of check A rests on enough numbers.

    So many that noise one per cent too small is found with probability 99.9 %.
    """
    return finding.numbers > 0 and noise_seen(finding.numbers, finding.alpha / 2) >= 0.99


def fresh_seed() -> int:
    """A seed of the operating system."""
    return int.from_bytes(os.urandom(4), "big")


def print_row(finding: Finding) -> None:
    """Prints one line: verdict, check, what was checked, what it would have seen.

    A second one for what is wrong.
    """
    verdict = "ok  " if finding.passed else "FAIL"
    count = f"{finding.numbers:,}" if finding.numbers else ""
    print(
        f"{verdict} {finding.check:4} {finding.subject:38.38} {count:>13}  {finding.sees:56.56}"
        f" {finding.seconds:5.1f} s",
        flush=True,
    )
    if finding.detail:
        print(f"          {finding.detail}", flush=True)


def sentences(findings: Sequence[Finding]) -> list[str]:
    """The sentences that a report must print for these findings."""
    said = [NO_PROOF]
    noise = [f for f in findings if f.check == "A"]
    if all(f.passed for f in noise) and any(enough(f) for f in noise):
        said.append(NOISE_SEEN)
    if any(f.check == "E" for f in findings):
        said.append(READING)
    return said


def summary(findings: Sequence[Finding], settings: Settings) -> list[str]:
    """The last lines: how many passed, and how often correct code would fail.

    With the sentences that explain them.
    """
    failed = [f for f in findings if not f.passed]
    seconds = sum(f.seconds for f in findings)
    verdict = "PASS" if not failed else "FAIL"
    alarm = sum(f.alpha for f in findings)
    first = (
        f"{verdict}: {len(findings) - len(failed)} of {len(findings)} passed in {seconds:.0f} s,"
        f" seed {settings.seed}"
    )
    false = (
        f"A program without errors fails so many checks by chance once in {1 / alarm:,.0f} audits."
        if alarm
        else "These checks compare exactly: a program without errors always passes."
    )
    return [first, false, *sentences(findings)]


def record(findings: Sequence[Finding], settings: Settings, **facts) -> dict:
    """The record of an audit as a JSON object.

    `facts`: complete, plan (digest), code_version, versions, skipped.
    """
    return {
        "format": FORMAT,
        "passed": bool(findings) and all(f.passed for f in findings),
        "settings": asdict(settings),
        **facts,
        "findings": [f.to_json() for f in findings],
        "sentences": sentences(findings),
    }
