"""Whether the private images choose the base that a run adapts, and what that may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SfumatoError
from . import parse
from .declare import Options, option


@dataclass(frozen=True)
class Choosing(Options):
    """Which base a run adapts, where the units' noisy votes choose it."""

    panel = "Choosing the base"

    match: bool = option(
        False, "Let the private images choose the base among --bases by noisy votes, in one plan."
    )
    match_epsilon: float | None = option(
        None,
        "What the votes alone would cost, out of --epsilon (default: 0.1, at most a tenth of it).",
        above=0,
    )
    bases: Sequence[str] | None = option(
        None,
        "Candidates, names or folders, all of one size (default: the bundled ones of 32 x 32).",
        metavar="A,B,..",
        parse=parse.listed,
    )

    def require_match(self) -> None:
        """SfumatoError for options of a choice without `match`."""
        for name in ("match_epsilon", "bases"):
            if getattr(self, name) is not None and not self.match:
                flag = name.replace("_", "-")
                raise SfumatoError(f"--{flag} goes with --match: add it, or leave --{flag} out")

    def share(self, epsilon: float) -> float:
        """Epsilon of the votes alone, out of that of the run."""
        return min(0.1, epsilon / 10) if self.match_epsilon is None else self.match_epsilon
