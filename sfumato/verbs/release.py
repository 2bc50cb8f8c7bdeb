"""`release` and `verify`: a folder that a stranger can check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..releases import VerifyReport
from ..runs.certified import verify as verify_release
from ..runs.release import finish


def release(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    ledger: str | Path | None = None,
    without_ledger: bool = False,
    title: str | None = None,
    licence: str = "other",
    public_metrics: Sequence[Mapping[str, Any]] | None = None,
    require_audit: bool = False,
) -> Path:
    """Finish a folder of `synthesize` or `export`: cards, certificate, report, verifier and hashes;
    returns it.

    The draft is compared with the run's ledger (`ledger`: where it is, if it was moved);
    LedgerFault if it is not the one that was certified. The ledger also says what happened since:
    looks at exact private scores, and choices among runs. `without_ledger`: it is gone (LedgerFault
    where it is not); the certificate says that nothing was compared, and that looks and later
    choices are not known. `out`: a new folder (default: in place). `public_metrics`: rows {name,
    value, public_data} of figures on public data, which the report prints as your word: nobody
    checks where a figure comes from, but one of the run's private evaluations is refused, as are
    words that hold a charged caption. `require_audit`: AuditFailed unless the run was audited
    before, completely and by this code, and passed.
    """
    return finish(
        Path(folder),
        None if out is None else Path(out),
        ledger=ledger,
        without_ledger=without_ledger,
        title=title,
        licence=licence,
        public_metrics=public_metrics,
        require_audit=require_audit,
    )


def verify(folder: str | Path, ledger: str | Path | None = None) -> VerifyReport:
    """Check a finished release: every file's hash, no stray file, epsilon priced again from
    privacy.json alone.

    ledger: the owner's, to compare the certificate with as well.
    """
    return verify_release(Path(folder), ledger)
