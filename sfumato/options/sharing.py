"""Where a finished release goes, and who may see it there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import SfumatoError
from .declare import Options, option

NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


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

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, name in (("--to", self.to), ("--space", self.space)):
            if name is not None and not NAME.fullmatch(name):
                raise SfumatoError(f"{flag} {name}: give ORG/NAME, as on the hub")
        if self.space is not None and self.space == self.to:
            raise SfumatoError("--space is the name of --to: give another name")
