"""The errors of the ledger's files."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator


class LedgerError(ValueError):
    """A ledger that is damaged, out of date, busy or not writable; one line with the cure."""


class LedgerOutOfReach(LedgerError):
    """The disk, its permissions or another process prevents access; the rows may be whole."""


class OlderCopy(LedgerError):
    """A ledger or a run folder that lacks rows which were seen before; a reset accepts it."""


@contextlib.contextmanager
def in_words() -> Generator[None, None, None]:
    """SQLite's and the system's errors as LedgerError, without paths or values."""
    try:
        yield
    except sqlite3.Error as error:
        line = " ".join(str(error).split())[:120]  # of a damaged file it may quote a part
        if isinstance(error, sqlite3.OperationalError):
            cure = "free space or wait for other runs, then try again"
            raise LedgerOutOfReach(f"the ledger cannot be used ({line}): {cure}") from error
        raise LedgerError(
            f"the ledger cannot be used ({line}): put the newest whole copy back"
        ) from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its message
        raise LedgerError("the ledger is damaged: put the newest whole copy back") from error
    except OSError as error:
        raise LedgerOutOfReach(
            f"the ledger cannot be used ({error.strerror}): name another place with --ledger or"
            " SFUMATO_LEDGER"
        ) from error
