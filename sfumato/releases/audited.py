"""The certificate's statement on the audit, and the check of a release that requires one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.errors import AuditFailed

NO_PROOF = "A passed audit does not prove differential privacy."


def audit_facts(
    record: Mapping[str, Any] | None, codes: Sequence[str], failed: int = 0
) -> dict[str, Any]:
    """The certificate's `audit` from the record of `sfumato audit RUN`.

    Findings are about dummy data, so all of them may be published.

    Args:
        record: The record; None: there is none.
        codes: Digests of all code that trained or releases.
        failed: How many audits of the run ever failed.
    """
    if record is None:
        return {"run": False, "statement": f"None was run on this release. {NO_PROOF}"}
    findings = [dict(finding) for finding in record["findings"]]
    passed = (
        bool(record["passed"]) and bool(findings) and all(finding["passed"] for finding in findings)
    )
    good = sum(finding["passed"] for finding in findings)
    same, before = {record["code_version"]} == set(codes), failed - (not passed)
    names = list(dict.fromkeys(finding["check"] for finding in findings))
    said = [
        f"{good} of {len(findings)} findings passed: the run's plan, model and sampler were"
        f" replayed on made-up data (checks {', '.join(names)}; seed {record['settings']['seed']};"
        f" {record['settings']['alpha']:g} false alarms a check)."
    ]
    said += [] if passed else ["The audit FAILED."]
    said += [] if record["complete"] else ["Not all checks were run."]
    said += (
        [] if same else ["It was run with another version of the code than trained or released."]
    )
    said += [f"Audits of this run that failed before: {before}."] if before > 0 else []
    said += [sentence for sentence in record["sentences"] if sentence != NO_PROOF]
    return {
        "run": True,
        "passed": passed,
        "complete": bool(record["complete"]),
        "same_code": same,
        "failed_before": max(before, 0),
        "statement": " ".join([*said, NO_PROOF]),
        "plan": record["plan"],
        "code_version": record["code_version"],
        "versions": dict(record["versions"]),
        "settings": dict(record["settings"]),
        "findings": findings,
        "skipped": list(record["skipped"]),
    }


def check_audit(audit: Mapping[str, Any]) -> None:
    """AuditFailed unless a certificate's `audit` is complete, passed, and of the same code.

    That is, of all code that trained and released.
    """
    cure = "run `sfumato audit RUN`, then synthesize or export again"
    if not audit.get("run"):
        raise AuditFailed(f"the run was not audited before this folder was made: {cure}")
    if not audit["passed"]:
        raise AuditFailed(
            "the run's audit failed: do not release it, and report which check it was"
        )
    if not audit["complete"] or not audit["same_code"]:
        what = "is of another version of the code" if audit["complete"] else "left checks out"
        raise AuditFailed(f"the run's audit {what}: {cure}")
