"""The request for a plan, before it has a price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.privacy import accounting, checks
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe

# The constants of the papers: one of a whole gradient (arXiv 2206.07136), one of a single matrix's
# (arXiv 2605.30312).
GAMMAS = {"normalised": 0.01, "per-group-normalised": 1e-4}


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that `make_plan` needs; what is left out has the usual value.

    Fields that a plan has, too, mean the same there (`fields.Fields`).

    Raises ValueError (rule and cure in one line) for what no plan could be made of.

    Attributes:
        epsilon: The target.
        delta: 1 / n_units or more needs `allow_large_delta`, which is recorded as the opt-in
            "large-delta".
        clip_norm: None with normalised clipping, per group or not.
        gamma: Of normalised clipping; None: the papers' constant.
        retry_fraction: Share of steps billed on top, so that a run may be resumed; its ceiling in
            steps is `retry_steps`.
        grid: None: 1e-4, and 1e-3 above epsilon 20.
        probe: A ranking to pay for. Where it has no noise multiplier it gets the least with which
            training needs at most `probe_share` more noise than without it.
        base_vote: A vote among bases to pay for; alone it costs `base_vote_epsilon`.
        moments: Class moments to pay for, in the same way with `moments_share`.
    """

    method: str
    unit: str
    n_units: int
    max_per_unit: int
    classes: Sequence[str]
    prompts: Sequence[str]
    epsilon: float
    delta: float
    expected_batch_size: float
    steps: int
    noise_draws: int
    clip_norm: float | None
    base: str
    base_digest: str
    trainable: int
    learning_rate: float
    clipping: str = "flat"
    clip_groups: int | None = None
    gamma: float | None = None
    relation: str = "zero-out"
    histogram_noise_multiplier: float | None = None
    retry_fraction: float = 0.0
    warmup_steps: int = 0
    ema_decay: float = 0.0
    target_modules: Sequence[str] = ()
    rank: int | None = None
    grid: float | None = None
    allow_large_delta: bool = False
    probe: Probe | None = None
    probe_share: float = 0.02
    aggregation: Aggregation | None = None
    voting: VoteHistogram | None = None
    captions: bool | None = None
    prompts_file: str | None = None
    base_vote: BaseVote | None = None
    base_vote_epsilon: float = 0.1
    moments: Moments | None = None
    moments_share: float = 0.1

    def __post_init__(self) -> None:
        accounting.check_epsilon(self.epsilon)
        accounting.check_delta(self.delta)
        if not checks.is_count(self.n_units):
            raise ValueError("n_units must be an integer >= 1: it is the public number of units")
        if (
            not checks.is_number(self.expected_batch_size)
            or not 0 < self.expected_batch_size <= self.n_units
        ):
            raise ValueError(
                f"expected_batch_size must lie above 0 and at most n_units ({self.n_units}): lower"
                " it"
            )
        if not checks.is_number(self.retry_fraction) or not 0 <= self.retry_fraction <= 1:
            raise ValueError(
                "retry_fraction must lie in [0, 1]: 0.05 pays for one resume every twentieth of the"
                " run"
            )
        if not checks.is_count(self.steps):
            raise ValueError("steps must be an integer >= 1")
        if self.clipping not in GAMMAS and self.clip_norm is None:
            raise ValueError(f"{self.clipping} clipping needs a clip_norm: try 1.0")
        if self.delta >= 1 / self.n_units and not self.allow_large_delta:
            raise ValueError(checks.large_delta(self.n_units))
        histogram = self.histogram_noise_multiplier
        if histogram is not None and not (checks.is_number(histogram) and histogram > 0):
            raise ValueError(
                "histogram_noise_multiplier must be a finite number > 0: try 25, or leave the"
                " histogram out"
            )
        if self.probe is not None and not (
            checks.is_number(self.probe_share) and 0 < self.probe_share <= 1
        ):
            raise ValueError(
                "probe_share must lie in (0, 1]: 0.02 lets the training noise rise by 2 %"
            )
        if self.base_vote is not None and not (
            checks.is_number(self.base_vote_epsilon) and 0 < self.base_vote_epsilon < self.epsilon
        ):
            raise ValueError(
                f"the epsilon of the vote for a base must lie above 0 and below that of the run"
                f" ({self.epsilon:g}): lower --match-epsilon"
            )
        if self.moments is not None and not (
            checks.is_number(self.moments_share) and 0 < self.moments_share <= 1
        ):
            raise ValueError(
                "moments_share must lie in (0, 1]: 0.1 lets the training noise rise by 10 %"
            )

    @property
    def sampling_rate(self) -> float:
        """Chance of a unit to be drawn in a step."""
        return self.expected_batch_size / self.n_units

    @property
    def retry_steps(self) -> int:
        """Steps billed beyond those planned."""
        return math.ceil(self.steps * self.retry_fraction)

    def terms(self) -> dict[str, Any]:
        """The fields of the plan that need no calibration, with every default filled in."""
        clip_norm, gamma, grid = self.clip_norm, self.gamma, self.grid
        if self.clipping in GAMMAS:
            clip_norm = 1.0 if clip_norm is None else clip_norm
            gamma = GAMMAS[self.clipping] if gamma is None else gamma
        if grid is None:
            coarse = self.epsilon > 20
            grid = accounting.PLANNING_GRID if coarse else accounting.CERTIFICATE_GRID
        return {
            "method": self.method,
            "unit": self.unit,
            "relation": self.relation,
            "n_units": self.n_units,
            "max_per_unit": self.max_per_unit,
            "classes": tuple(self.classes),
            "prompts": tuple(self.prompts),
            "epsilon_target": accounting.check_epsilon(self.epsilon),
            "delta": accounting.check_delta(self.delta),
            "sampling_rate": self.sampling_rate,
            "expected_batch_size": self.expected_batch_size,
            "steps": self.steps,
            "noise_draws": self.noise_draws,
            "clip_norm": clip_norm,
            "clipping": self.clipping,
            "gamma": gamma,
            "clip_groups": self.clip_groups,
            "histogram_noise_multiplier": self.histogram_noise_multiplier,
            "retry_steps": self.retry_steps,
            "base": self.base,
            "base_digest": self.base_digest,
            "trainable": self.trainable,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "ema_decay": self.ema_decay,
            "target_modules": tuple(self.target_modules),
            "rank": self.rank,
            "aggregation": self.aggregation,
            "voting": self.voting,
            "captions": self.captions,
            "prompts_file": self.prompts_file,
            "opt_ins": ("large-delta",) if self.delta >= 1 / self.n_units else (),
            "grid": grid,
        }
