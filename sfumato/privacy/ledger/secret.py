"""The ledger's secret key: it names images by keyed hashes and authenticates rows."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from sfumato.privacy.files import BINARY, open_to_others
from sfumato.privacy.ledger.faults import LedgerError, in_words

_MARK = "format 2"  # the second line of a key whose ledger has authenticated rows
_DAMAGED = "the ledger's key is damaged: put it back beside the ledger"


@dataclass(frozen=True)
class LedgerKey:
    """32 secret bytes.

    `sealed`: rows under this key are authenticated, so a file without codes is none of its newest.
    """

    secret: bytes
    sealed: bool = True

    @property
    def id(self) -> str:
        """16 hex digits that name the key without revealing it."""
        return hashlib.sha256(b"id" + self.secret).hexdigest()[:16]

    def keyed(self, value: bytes) -> bytes:
        """HMAC-SHA256 of one value."""
        return hmac.digest(self.secret, value, "sha256")

    def mac(self, digest: str, written: str) -> bytes:
        """The code of one row: of its hash, which covers the chain before it, and its time."""
        # no image has a hash of this length
        own = hmac.digest(self.secret, b"sfumato ledger: code of a row", "sha256")
        return hmac.digest(own, f"{digest} {written}".encode("ascii"), "sha256")


def fresh_key() -> bytes:
    """32 bytes of the operating system."""
    return os.urandom(32)


def load_key(path: Path) -> LedgerKey:
    """Loads the key in `path`.key, made on first use.

    Returns:
        The key.

    Raises:
        LedgerError: It is missing beside a ledger, damaged or readable by others.
    """
    place = path.with_name(path.name + ".key")
    with in_words():
        if not place.exists() and not path.exists():
            _write(place, LedgerKey(fresh_key()))
        if not place.exists():
            raise LedgerError(
                "the ledger's key is gone, so no image would be recognised: put it back beside the"
                " ledger"
            )
        if open_to_others(place):
            raise LedgerError(
                "the ledger's key is readable by other users: set its mode to 0600 (chmod 600)"
            )
        text = place.read_bytes()
    try:
        first, *rest = text.decode("ascii").split("\n")
        secret = bytes.fromhex(first.strip())
    except ValueError as error:
        raise LedgerError(_DAMAGED) from error
    if len(secret) != 32 or rest not in ([], [""], [_MARK, ""]):
        raise LedgerError(_DAMAGED)
    return LedgerKey(secret, sealed=_MARK in rest)


def mark_sealed(path: Path, key: LedgerKey) -> LedgerKey:
    """Notes beside an upgraded ledger that it must never be taken for one of format 1 again.

    Returns:
        The key with that mark.
    """
    with in_words():
        _write(path.with_name(path.name + ".key"), LedgerKey(key.secret))
    return LedgerKey(key.secret)


def _write(place: Path, key: LedgerKey) -> None:
    part = place.with_name(place.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(
        os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600), "wb"
    ) as file:
        file.write(f"{key.secret.hex()}\n{_MARK}\n".encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, place)
