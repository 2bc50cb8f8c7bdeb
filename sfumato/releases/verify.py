"""`verify`: the stand-alone verifier's checks and those of `consistency`.

Run by the installed package on a folder from anyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.privacy.accounting import quiet
from sfumato.releases import consistency, verify_privacy
from sfumato.releases.contents import SUMS


@dataclass(frozen=True)
class VerifyReport:
    """`ok` when every check passed; `checks` lists (name, passed, detail) in the order they ran."""

    ok: bool
    checks: list[tuple[str, bool, str]]

    @property
    def failed(self) -> list[tuple[str, bool, str]]:
        """The checks that failed."""
        return [check for check in self.checks if not check[1]]


def all_checks(folder: Path) -> list[tuple[str, bool, str]]:
    """(name, passed, detail) of every check, the stand-alone verifier's first.

    The others read only what that one could read.
    """
    with quiet():
        own = verify_privacy.checks(folder)
    readable = all(passed for name, passed, _ in own if name == "privacy.json")
    return own + (
        consistency.checks(folder)
        if readable
        else [("consistency", False, "privacy.json cannot be read")]
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is one of `adapt`, finished or not: private, whatever else lies in it."""
    return (folder / "plan.json").is_file() or (folder / "run.key").is_file()


def verify(folder: str | Path) -> VerifyReport:
    """Hashes every file and prices epsilon again from privacy.json alone.

    Nothing inside the folder is executed. Raises SfumatoError when the folder is not a finished
    release at all.
    """
    folder = Path(folder)
    name = folder.absolute().name  # of "." as well
    if not folder.is_dir():
        raise SfumatoError(f"{name} is not a folder: give the release folder")
    if is_run(folder):
        raise SfumatoError(
            f"{name} is a run folder: it is PRIVATE and never leaves this machine; make a"
            " release of it (`sfumato synthesize` or `sfumato export`, then `sfumato release`)"
        )
    if not (folder / SUMS).is_file():
        raise SfumatoError(
            f"{name} has no {SUMS}, so it is not finished: run `sfumato release` on it first, if"
            " `sfumato synthesize` or `sfumato export` made it"
        )
    checks = all_checks(folder)
    return VerifyReport(all(ok for _, ok, _ in checks), checks)
