"""`release` and `verify`: a folder that a stranger can check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..options.arguments import checked
from ..releases import VerifyReport
from ..runs.certified import verify as verify_release
from ..runs.release import finish


@checked
def release(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    ledger: str | Path | None = None,
    without_ledger: bool = False,
    title: str | None = None,
    licence: str = "other",
    base_model: str | None = None,
    public_metrics: Sequence[Mapping[str, Any]] | None = None,
    require_audit: bool = False,
) -> Path:
    """Finishes a folder of `synthesize` or `export`: cards, certificate, report, verifier, hashes.

    The draft is compared with the run's ledger; LedgerFault if it is not the one that was
    certified. The ledger also states what happened since: looks at exact private scores, and
    choices among runs.

    Args:
        folder: The folder of `synthesize` or `export`.
        out: A new folder (default: in place).
        ledger: Where the run's ledger is, if it was moved.
        without_ledger: The ledger is gone (LedgerFault if it is not); the certificate states that
            nothing was compared, and that looks and later choices are not known.
        title: Title of the cards and the report.
        licence: Licence of the release.
        base_model: ORG/NAME of the base on a hub, for the card of a model: your word, not checked.
        public_metrics: Rows {name, value, public_data} of figures on public data, which the report
            prints as your word: nobody checks where a figure comes from, but one of the run's
            private
            evaluations is refused, as are words that contain a charged caption.
        require_audit: AuditFailed unless the run was audited before, completely and by this code,
            and
            passed.

    Returns:
        The finished folder.
    """
    return finish(
        Path(folder),
        None if out is None else Path(out),
        ledger=ledger,
        without_ledger=without_ledger,
        title=title,
        licence=licence,
        base_model=base_model,
        public_metrics=public_metrics,
        require_audit=require_audit,
    )


@checked
def verify(folder: str | Path, ledger: str | Path | None = None) -> VerifyReport:
    """Checks a finished release: every file's hash, no stray file, epsilon from privacy.json alone.

    Args:
        folder: The release.
        ledger: The owner's ledger, to compare the certificate with as well.

    Returns:
        What was checked, and what failed.
    """
    return verify_release(Path(folder), ledger)
