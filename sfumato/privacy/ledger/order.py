"""Kinds of rows, and which needs which before it: charge first, then read, then release."""

from __future__ import annotations

from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.faults import LedgerError

KINDS = (
    "NOTE",
    "OPEN",
    "JOIN",
    "CAP",
    "PLAN",
    "PUBLIC",
    "CHARGE",
    "ATTEMPT",
    "PROBE",
    "REPLAY",
    "RELEASE",
    "CERTIFY",
    "RESET",
    "DISK",
    "LOOK",  # exact figures that somebody saw
    "SELECT",  # a choice by noisy ones
)
# Rows that the ledger writes itself, inside transactions of its own.
OWN = ("CHARGE", "PUBLIC", "OPEN", "JOIN", "CAP", "RESET", "DISK", "LOOK")
# Rows that `export` writes out: nothing in them follows which units were drawn.
EXPORTED = (
    "OPEN",
    "JOIN",
    "CAP",
    "PLAN",
    "PUBLIC",
    "CHARGE",
    "PROBE",
    "RELEASE",
    "CERTIFY",
    "RESET",
    "DISK",
    "LOOK",
    "SELECT",
)
_NEEDS = {
    "CHARGE": "PLAN",
    "ATTEMPT": "CHARGE",
    "PROBE": "ATTEMPT",
    "REPLAY": "ATTEMPT",
    "RELEASE": "ATTEMPT",
    "CERTIFY": "RELEASE",
    "LOOK": "CHARGE",
    "SELECT": "CHARGE",
}


def require_before(chain: Chain, run_id: str, kind: str) -> None:
    """LedgerError unless the run has the row that one of this kind needs before it."""
    need = _NEEDS.get(kind)
    if need and not chain.of(need, run_id):
        raise LedgerError(
            f"a {kind} row needs a {need} row before it: charge first, then read, then release"
        )
