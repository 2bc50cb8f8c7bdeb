"""Rows of a ledger: their fields, the JSON that is hashed, and the check of a row that was read."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.secret import LedgerKey

GENESIS = "0" * 64
COLUMNS = ("seq", "prev_hash", "kind", "run_id", "attempt", "utc", "body", "hash")
_NAMES = ", ".join(COLUMNS)
READ = {
    1: f"SELECT {_NAMES}, NULL, '' FROM entry WHERE seq >= ? ORDER BY seq",
    2: (
        f"SELECT {_NAMES}, mac, written FROM entry LEFT JOIN seal USING (seq) WHERE seq >= ?"
        " ORDER BY seq"
    ),
}


@dataclass(frozen=True)
class Row:
    """One entry.

    `hash` is SHA-256 over the canonical JSON of the fields before it; `seq` decides the order.

    `written` is the time (UTC), in the ledger alone: the time of a row of a run follows the sizes
    of drawn batches. `utc` is empty, but in rows of format 1.
    """

    seq: int
    prev_hash: str
    kind: str
    run_id: str
    attempt: int | None
    utc: str
    body: dict[str, Any]
    hash: str
    written: str = ""


def canonical(value: object) -> str:
    """The one JSON text of a value; ValueError for what is not finite or not JSON."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "a ledger row holds finite numbers, text and lists only: remove what is not JSON"
        ) from error


def hash_of(row: Mapping[str, Any]) -> str:
    """SHA-256, hex, over the canonical JSON of a row without its `hash` and `written`."""
    covered = {k: v for k, v in row.items() if k not in ("hash", "written")}
    return hashlib.sha256(canonical(covered).encode("ascii")).hexdigest()


def whole_row(cells: Sequence[Any], number: int, head: str, key: LedgerKey, form: int) -> Row:
    """Checks a row that was read and returns it.

    Args:
        cells: The row's cells in the file.
        number: Its number.
        head: Hash of the row before it.
        key: The ledger's key.
        form: Format of the file.

    Returns:
        The row.

    Raises:
        LedgerError: It is damaged, or was not written under the key.
    """
    *row, mac, written = cells
    values: dict[str, Any] = {}
    # Typed by hand: SQLite would hand out a damaged cell as whatever it now looks like.
    try:
        values.update(zip(COLUMNS, row, strict=True))
        values["body"] = json.loads(values["body"])
        here = (values["seq"], values["prev_hash"], values["hash"])
        whole = here == (number, head, hash_of(values))
        whole = whole and isinstance(values["body"], dict)
        whole = whole and canonical(cast(object, values["body"])) == row[6]
    except (TypeError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise LedgerError(f"the ledger is damaged at row {number}: put the newest whole copy back")
    if number == 0 and values["body"].get("key") != key.id:
        raise LedgerError(
            "the ledger's key is not the one that it was made with: put ledger and key back"
            " together"
        )
    if form > 1 and not _same(mac, key.mac(values["hash"], str(written))):
        raise LedgerError(
            f"row {number} of the ledger was not written under its key: put the newest whole copy"
            " back"
        )
    return Row(**values, written=written)


def _same(found: object, mac: bytes) -> bool:
    return isinstance(found, bytes) and hmac.compare_digest(found, mac)
