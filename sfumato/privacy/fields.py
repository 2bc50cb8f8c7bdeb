"""The fields of a plan.

`plan.Plan` adds the rules on several fields together, and what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.privacy.events import Event
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.rounding import Rounding


@dataclass(frozen=True)
class Fields:
    """The fields of a plan; every one counts as public.

    Attributes:
        method: Name of the method.
        unit: "record", or the name of the unit column.
        relation: What a neighbouring data set is (`accounting.RELATIONS`).
        n_units: Units, or slots where the unit is a record.
        max_per_unit: Most images of one unit that are counted or looked at.
        classes: Public class names.
        prompts: One public prompt for each class.
        epsilon_target: Epsilon that was asked for.
        delta: Delta of the guarantee.
        sampling_rate: expected_batch_size / n_units.
        expected_batch_size: The divisor B of a step's sum.
        steps: Training steps; 1 for an aggregation; rounds of a vote.
        noise_draws: K, draws of one record averaged before its clip.
        clip_norm: What one unit adds at most, all groups together.
        clipping: One of `plan.CLIPPINGS`.
        gamma: Constant of normalised clipping; None: it is not.
        noise_multiplier: Noise standard deviation / sensitivity.
        histogram_noise_multiplier: Of the label histogram; None: there is none.
        retry_steps: Further steps billed for resumes.
        events: All that is asked of the private data, training or aggregation last.
        epsilon: The composed cost, rounded up to 3 decimals.
        base: Name or folder of the public base.
        base_digest: Its hash.
        trainable: Numbers that train; with a probe the most that can be chosen.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of its warmup.
        ema_decay: Of the average of weights; 0: none.
        target_modules: Modules that train; with a probe the candidates.
        rank: Rank of the adapters; None: no adapters.
        grid: Discretisation of the accountant.
        opt_ins: What the owner allowed by name.
        probe: The noisy ranking that decides what trains.
        clip_groups: How many groups share clip_norm equally; None: one clip.
        aggregation: The run is one noisy sum of embeddings (one "step" over all units, or over a
            Poisson sample) and no training.
        rounding: The grid of the training sums; None for an aggregation or votes, and for plans
            from before there was one, which train no more.
        voting: Every step is one noisy histogram of all units' votes, and nothing trains.
        captions: True where the captions of images train, in place of the prompts of classes.
        prompts_file: SHA-256 of public prompts that were given for synthesis.
        base_vote: The noisy votes among public bases that decided which is `base`; the fields that
            price the plan are the same whatever base it is.
        moments: The noisy class moments that warm the model up before training.
    """

    method: str
    unit: str
    relation: str
    n_units: int
    max_per_unit: int
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    epsilon_target: float
    delta: float
    sampling_rate: float
    expected_batch_size: float
    steps: int
    noise_draws: int
    clip_norm: float
    clipping: str
    gamma: float | None
    noise_multiplier: float
    histogram_noise_multiplier: float | None
    retry_steps: int
    events: tuple[Event, ...]
    epsilon: float
    base: str
    base_digest: str
    trainable: int
    learning_rate: float
    warmup_steps: int
    ema_decay: float
    target_modules: tuple[str, ...]
    rank: int | None
    grid: float
    opt_ins: tuple[str, ...] = ()
    probe: Probe | None = None
    clip_groups: int | None = None
    aggregation: Aggregation | None = None
    rounding: Rounding | None = None
    voting: VoteHistogram | None = None
    captions: bool | None = None
    prompts_file: str | None = None
    base_vote: BaseVote | None = None
    moments: Moments | None = None
