"""Copies that were put back, of the ledger or of a run folder.

They are refused, or accepted with a RESET row.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfumato.privacy.ledger.chain import Chain
from sfumato.privacy.ledger.entries import Reset
from sfumato.privacy.ledger.faults import LedgerError, OlderCopy
from sfumato.privacy.ledger.witness import Head, RunNote, Seen


def check_run(chain: Chain, run_id: str, folder: Path) -> None:
    """Compares what a run folder and the ledger know of the run.

    Raises:
        OlderCopy: The folder knows rows that the ledger lacks, or lacks rows of its run that the
            ledger
            knows.
    """
    note = RunNote(folder)
    if _judge(chain, run_id, note.read()) is None or not chain.of_run(run_id):
        return  # what is no run of this ledger cannot be accepted either: the caller says so
    with note.held():  # another process may have been between the two
        found = _judge(chain, run_id, note.read())
    if found == "ledger":
        raise OlderCopy(
            f"the ledger lacks rows that {folder} has seen: it is an older copy or another one. Put"
            " the newest back, or, if it is gone, accept this one with `sfumato ledger reset"
            f" {shlex.quote(str(folder))}`, which every later certificate shows"
        )
    if found == "folder":
        raise OlderCopy(
            f"{folder} is an older copy of its run: the ledger knows of later rows. Use the newest"
            " folder, or, if it is gone, accept this one with `sfumato ledger reset"
            f" {shlex.quote(str(folder))}`,"
            " which every later certificate shows"
        )


def _judge(chain: Chain, run_id: str, seen: Seen | None) -> str | None:
    """Which of the two is the older one; None if neither is, or where the folder has no note."""
    chain.refresh()
    if seen is None:
        return None
    newest = seen.head[0]
    if seen.coming and chain.holds(seen.coming):
        newest = seen.coming[0]
    elif not chain.holds(seen.head):
        return "ledger"
    rows = chain.of_run(run_id)
    return "folder" if rows and rows[-1].seq > newest else None


def reset_ledger(chain: Chain) -> None:
    """Accept a ledger that lacks rows which were noted. LedgerError if it lacks none."""
    if not chain.lost:
        chain.close()
        raise LedgerError(
            "there is nothing to reset: this is the ledger that was last written here"
        )
    with chain.transaction(resetting=True):
        chain.enter(_lost(len(chain.rows), chain.lost))


def reset_run(chain: Chain, run_id: str, folder: Path) -> None:
    """Accepts a run folder and a ledger of which one is older than the other.

    Raises:
        LedgerError: Neither is.
    """
    note = RunNote(folder)
    with note.held():
        seen = note.read()
        older = _judge(chain, run_id, seen)
        if older is None or seen is None:
            raise LedgerError(
                f"there is nothing to reset: {folder} and the ledger know the same rows of the run"
            )
        noted = [head for head in (seen.head, seen.coming) if head and not chain.holds(head)]
        with chain.transaction(resetting=True):
            had = len(chain.rows)
            lost = _lost(had, noted) if older == "ledger" else Reset(rows=had, missing=0, noted=())
            chain.enter(replace(lost, run=run_id, older=older))
        head = (len(chain.rows) - 1, chain.head)
        note.announce(head, head)


def _lost(had: int, noted: list[Head]) -> Reset:
    number = max(number for number, _ in noted)
    # A different chain of the same length: how many rows it lacks is unknown.
    missing = number + 1 - had if number >= had else None
    return Reset(rows=had, missing=missing, noted=[digest for _, digest in noted])


def resets(chain: Chain) -> list[dict[str, Any]]:
    """Returns every acceptance of an older copy: row, day, missing rows (None: unknown), and run.

    Also every time that nothing outside the ledger's folder knew of its charges (`unwitnessed`), so
    that an older copy could not have been detected.
    """
    return [
        {"row": row.seq, "utc": (row.written or row.utc)[:10], "missing_rows": reset.missing}
        | ({} if reset.run is None else {"run": reset.run, "older": reset.older})
        | ({"unwitnessed": True} if reset.unwitnessed else {})
        for row, reset in chain.entered(Reset)
    ]
