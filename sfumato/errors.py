"""The one error a user sees: a single line that names the rule and the cure."""

from __future__ import annotations


class SfumatoError(Exception):
    """Bad input or an unmet condition; the command line prints it and exits with `exit_code`."""

    exit_code = 2


class Interrupted(SfumatoError):
    """A run that stopped at a step boundary and can be resumed (exit code 75)."""

    exit_code = 75


class CheckFailed(SfumatoError):
    """A release that does not verify (exit code 1)."""

    exit_code = 1


class AuditFailed(SfumatoError):
    """An audit that found something, or is missing where one is required (exit code 15)."""

    exit_code = 15
