"""DP-SAPF: adapters only on the matrices that a private probe ranks highest (Gong et al., arXiv
2605.30312).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..bases import Base
from ..errors import SfumatoError
from ..privacy.mechanisms.votes import Probe
from .adaptation import Adaptation, Prompts
from .lora import low_rank
from .targets import PROJECTIONS, grouped, how_many, matching_modules

CHOICES = ("private", "public", "random")


def saliency(
    base: Base,
    prompts: Prompts,
    *,
    rank: int = 4,
    alpha: float | None = None,
    target_modules: Sequence[str] = PROJECTIONS,
    keep: float | int = 0.3,
    granularity: str = "matrix",
    choose: str = "private",
    score: str = "votes",
    votes: int | None = None,
    probe_clip: float | None = None,
    per_size: bool = False,
    probe_units: int = 4096,
    probe_draws: int = 4,
    probe_noise: float | None = None,
    probe_share: float = 0.02,
    freeze_a: bool = False,
    adapter_init: str = "gaussian",
    start: Mapping[str, torch.Tensor] | None = None,
    selected: Sequence[str] | None = None,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """LoRA on the best `keep` (ratio or count) of the candidates `target_modules`, alone, by layer
    or by block (section 4).

    choose: "private" asks the plan for a probe (`score`, `votes` (default: as many as are kept),
    `probe_clip`, `per_size`: see `privacy.probing.Probe`) on `probe_units` expected units with
    `probe_draws` draws each, whose noise is `probe_noise` or whatever `probe_share` pays for;
    "random" draws from the public seed. `selected` (groups by name) is a choice that has been made,
    by the probe or on public data; until then all candidates are adapted. Saves what `lora` saves.
    """
    if choose not in CHOICES:
        raise SfumatoError(f"--choose {choose}: use {', '.join(CHOICES)}")
    candidates = matching_modules(base.denoiser, target_modules)
    groups = grouped(candidates, granularity)
    count, probe = how_many(keep, len(groups)), None
    if selected is None and count < len(groups):
        if choose == "public":
            raise SfumatoError(
                "--choose public needs --public-data, images that may be ranked by for free"
            )
        if choose == "random":
            selected = [list(groups)[i] for i in torch.randperm(len(groups))[:count].sort().values]
        else:
            try:
                ballots = votes or (count if score == "votes" else None)
                probe = Probe(
                    tuple(groups),
                    count,
                    score,
                    ballots,
                    probe_clip,
                    per_size,
                    float(probe_units),
                    probe_draws,
                    probe_noise,
                )
            except ValueError as error:
                raise SfumatoError(f"--method saliency: {error}") from error
    if selected is not None and (len(selected) != count or not set(selected) <= set(groups)):
        raise SfumatoError(
            "the selection does not fit the candidates: it belongs to another base or other options"
        )
    chosen = [m for m in candidates if selected is None or any(m in groups[g] for g in selected)]
    adapted = low_rank(base, prompts, chosen, rank, alpha, freeze_a, adapter_init, start, precision)
    return replace(adapted, probe=probe, probe_share=probe_share, groups=groups)
