"""DP-SAPF: adapters only on the matrices that a private probe ranks highest (Gong et al., arXiv
2605.30312).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ...errors import SfumatoError
from ...options import option, parse
from ..interface import Given
from ..low_rank import LowRank

if TYPE_CHECKING:
    from ...bases import Base
    from ...privacy.mechanisms.votes import Probe
    from ..adaptation import Adaptation


@dataclass(frozen=True)
class Saliency(LowRank):
    """LoRA on the best `keep` of the candidates `target_modules`, alone, by layer or by block
    (section 4).

    choose "private" asks the plan for a probe (`privacy.mechanisms.votes.Probe`) on `probe_units`
    expected units with `probe_draws` draws each, whose noise is `probe_noise` or whatever
    `probe_share` pays for; "random" draws from the public seed. Until a choice has been made, by
    the probe or on public data (`Given.selected`), all candidates are adapted. Saves what `lora`
    saves.
    """

    name = "saliency"

    rank: int = option(4, "Rank of the adapters.", least=1)
    keep: float | int = option(
        0.3, "Ratio or count of the candidates that trains.", metavar="0.3|38",
        parse=parse.ratio_or_count,
    )  # fmt: skip
    choose: Literal["private", "public", "random"] = option(
        "private", "By a paid probe (default), by --public-data, or by chance."
    )
    granularity: Literal["matrix", "layer", "block"] = option("matrix", "What is chosen as one.")
    score: Literal["votes", "squares"] = option(
        "votes", "What a unit says (default: votes for its best)."
    )
    votes: int | None = option(None, "Votes of a unit (default: as many as train).", least=1)
    probe_clip: float | None = option(
        None, "squares: clip to this norm (default: scale to norm 1)."
    )
    per_size: bool = option(False, "Divide norms by the root of a matrix's size.")
    probe_units: int = option(4096, "Poisson mean of units asked (default 4096, or all).", least=1)
    probe_draws: int = option(4, "Draws averaged per unit.", least=1)
    probe_share: float = option(0.02, "Rise of training's sigma that the probe may cost.")
    probe_noise: float | None = option(None, "Or its noise multiplier.", metavar="SIGMA")

    def apply(self, base: Base, given: Given) -> Adaptation:
        import torch

        from ..targets import grouped, how_many, matching_modules

        candidates = matching_modules(base, self.target_modules)
        groups = grouped(base, candidates, self.granularity)
        count, probe, selected = how_many(self.keep, len(groups)), None, given.selected
        if selected is None and count < len(groups):
            if self.choose == "public":
                raise SfumatoError(
                    "--choose public needs --public-data, images that may be ranked by for free"
                )
            if self.choose == "random":
                drawn = torch.randperm(len(groups))[:count].sort().values
                selected = [list(groups)[i] for i in drawn]
            else:
                probe = self.probe(tuple(groups), count)
        if selected is not None and (len(selected) != count or not set(selected) <= set(groups)):
            raise SfumatoError(
                "the selection does not fit the candidates: it belongs to another base or other"
                " options"
            )
        chosen = [
            m for m in candidates if selected is None or any(m in groups[g] for g in selected)
        ]
        adapted = self.adapters(base, given, chosen)
        return replace(adapted, probe=probe, probe_share=self.probe_share, groups=groups)

    def probe(self, groups: tuple[str, ...], count: int) -> Probe:
        """The noisy ranking of `groups` that the plan is asked to pay for."""
        from ...privacy.mechanisms.votes import Probe

        try:
            return Probe(
                groups,
                count,
                self.score,
                self.votes or (count if self.score == "votes" else None),
                self.probe_clip,
                self.per_size,
                float(self.probe_units),
                self.probe_draws,
                self.probe_noise,
            )
        except ValueError as error:
            raise SfumatoError(f"--method saliency: {error}") from error
