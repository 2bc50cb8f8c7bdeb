"""Where a finished release goes, and who may see it there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import SfumatoError
from .declare import Options, option

NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
UNLABELLED = "unlabelled"  # the label of a picture of a prompt that names no class


@dataclass(frozen=True)
class Sharing(Options):
    """Where a finished release goes on a hub, and who may see it."""

    panel = "Hub"

    to: str | None = option(None, "Repository of the release.", metavar="ORG/NAME")
    public: bool = option(False, "Everybody may read it (default: only you and ORG).")
    space: str | None = option(
        None, "Also make a Space, a page that verifies the release again.", metavar="ORG/NAME"
    )
    dry_run: bool = option(
        False, "List every file with size and digest, and send nothing: needs no network."
    )

    def require_names(self) -> str:
        """Checks the names that were given.

        Returns:
            That of the release's repository.

        Raises:
            SfumatoError: It is missing, or one is no name on a hub.
        """
        if self.to is None:
            raise SfumatoError("--to is required: give ORG/NAME of the repository to be")
        for flag, name in (("--to", self.to), ("--space", self.space)):
            if name is not None and not NAME.fullmatch(name):
                raise SfumatoError(f"{flag} {name}: give ORG/NAME, as on the hub")
        if self.space == self.to:
            raise SfumatoError("--space is the name of --to: give another name")
        return self.to
