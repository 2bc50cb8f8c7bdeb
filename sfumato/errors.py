"""The errors a user sees: one line with the rule and the cure, and an exit code for the room."""

from __future__ import annotations


class SfumatoError(Exception):
    """Bad input or an unmet condition; the command line prints it and exits with `exit_code`.

    2: invalid arguments.
    """

    exit_code = 2


class DataError(SfumatoError):
    """Private images or their table break a rule (exit code 10); nothing is charged for it."""

    exit_code = 10


class ModelError(SfumatoError):
    """A base, adapter or weights file is damaged, unsafe or another one's (exit code 11)."""

    exit_code = 11


class BudgetError(SfumatoError):
    """The run would cost more than the owner allows, or cannot be added to what was spent.

    Exit code 12.
    """

    exit_code = 12


class LedgerFault(SfumatoError):
    """The ledger is damaged, missing, out of date, or does not know the run (exit code 13)."""

    exit_code = 13


class MachineError(SfumatoError):
    """Disk, permissions or processes of this machine do not allow it (exit code 14)."""

    exit_code = 14


class Interrupted(SfumatoError):
    """A run that stopped and can be resumed (exit code 75)."""

    exit_code = 75


class CheckFailed(SfumatoError):
    """A release that does not verify (exit code 1)."""

    exit_code = 1


class AuditFailed(SfumatoError):
    """An audit that found something, or is missing where one is required (exit code 15)."""

    exit_code = 15
