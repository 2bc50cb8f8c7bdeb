"""The verbs' options as types for a checker; a test holds them to the option classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from ..options import (
    Choosing,
    Execution,
    Judging,
    Machine,
    Matching,
    Performance,
    Privacy,
    Prompting,
    Reading,
    Recipe,
    Sampling,
    Schedule,
    Selecting,
    Sharing,
    Signing,
)
from ..options.privacy import Layout
from ..planning.published import Confirm


class ReadingFields(TypedDict, total=False):
    """Fields of `sfumato.Reading`."""

    labels: str | None
    classes: Sequence[str] | None
    yes_public: bool | Sequence[str]
    caption_column: str | None
    unit: str | None
    max_bad: float
    unlabelled: bool
    value_range: str | Sequence[float] | None
    window: str | Sequence[float] | None
    invert: bool
    background: Literal["white", "black", "grey", "ignore"]
    frames: str | int | None
    layout: Layout | None
    objects: Literal["largest", "crops"] | None
    split: str | None


class PrivacyFields(TypedDict, total=False):
    """Fields of `sfumato.Privacy`."""

    epsilon: float | None
    delta: float | None
    relation: Literal["zero-out", "replace-one"]
    histogram: float | None
    max_per_unit: int | None
    retry_fraction: float
    clip_norm: float | None
    clipping: Literal["flat", "normalised", "per-group", "per-group-normalised"]
    allow_large_delta: bool
    allow_caption_prompts: bool
    allow_doubtful_units: bool
    public_may_overlap: bool
    anyway: bool
    stand_in: str | None
    tuning: str | None


class ChoosingFields(TypedDict, total=False):
    """Fields of `sfumato.Choosing`."""

    match: bool
    match_epsilon: float | None
    bases: Sequence[str] | None


class ScheduleFields(TypedDict, total=False):
    """Fields of `sfumato.Schedule`."""

    expected_batch_size: int | None
    steps: int | None
    noise_draws: int | None
    time: float | str | None


class PromptingFields(TypedDict, total=False):
    """Fields of `sfumato.Prompting`."""

    prompt: str | Mapping[str, str] | None
    init: Mapping[str, str] | None
    embedder: bool | None
    condition: Literal["classes", "captions"] | None
    prompts_file: str | None
    placeholder: str | None
    initializer: str | None


class RecipeFields(TypedDict, total=False):
    """Fields of `sfumato.Recipe`."""

    learning_rate: float | None
    warmup_steps: int
    decay_from: float
    ema_decay: float | None
    time_bias: float
    caption_dropout: float
    buckets: Sequence[str] | None


class PerformanceFields(TypedDict, total=False):
    """Fields of `sfumato.Performance`."""

    micro_batch: int | None
    memory_budget: int | None
    gradient_checkpointing: bool
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int | None
    checkpoint_steps: int
    engine: Literal["one-pass", "reference"]
    shard_base: bool
    samples_every: int | None


class ExecutionFields(TypedDict, total=False):
    """Fields of `sfumato.Execution`."""

    shard: tuple[int, int] | None
    keep_inversions: bool
    controls: bool


class MachineFields(TypedDict, total=False):
    """Fields of `sfumato.Machine`."""

    device: str


class SamplingFields(TypedDict, total=False):
    """Fields of `sfumato.Sampling`."""

    scheduler: str
    steps: int
    guidance_scale: float
    seed: int
    class_moments: int | None
    batch: int


class MethodFields(TypedDict, total=False):
    """Fields of the methods' classes: each belongs to some of them."""

    blocks: str | None
    rank: int
    alpha: float | None
    target_modules: Sequence[str]
    freeze_a: bool
    adapter_init: Literal["gaussian", "orthonormal", "public"]
    activation: Literal["identity", "silu", "tanh", "gelu"]
    warm_up: Literal["none", "means"]
    warm_up_share: float
    warm_up_steps: int | None
    warm_up_size: int | None
    warm_up_rounds: int
    keep: float | int
    choose: Literal["private", "public", "random"]
    granularity: Literal["matrix", "layer", "block"]
    score: Literal["votes", "squares"]
    votes: int | None
    probe_clip: float | None
    per_size: bool
    probe_units: int
    probe_draws: int
    probe_share: float
    probe_noise: float | None
    num_vectors: int
    aggregate: Literal["clip", "unit"]
    subspace: Literal["vocabulary", "public", "none"] | None
    dimensions: int | None
    radius: float | None
    shrink: bool | None
    inversion_steps: int | None
    inversion_draws: int | None
    iterations: int | None
    candidates: int | None
    nearest: int
    threshold: float
    variation: float
    variation_end: float
    features: str
    fine_tune: int | None


class JudgingFields(TypedDict, total=False):
    """Fields of `sfumato.Judging`."""

    classifiers: Sequence[str]
    seeds: int | Sequence[int]
    steps: int | None
    public_images: int | None
    distances: bool | None


class MatchingFields(TypedDict, total=False):
    """Fields of `sfumato.Matching`."""

    epsilon: float | None
    delta: float | None
    relation: Literal["zero-out", "replace-one"]
    allow_doubtful_units: bool
    bases: Sequence[str] | None
    words: Sequence[str] | None
    samples: int
    sampler_steps: int
    seed: int


class SelectingFields(TypedDict, total=False):
    """Fields of `sfumato.Selecting`."""

    epsilon: float | None
    delta: float | None
    relation: Literal["zero-out", "replace-one"]
    allow_doubtful_units: bool
    classifier: Literal["logistic", "cnn", "resnet", "wrn"]
    steps: int | None
    images: int
    sampler_steps: int
    seed: int


class SharingFields(TypedDict, total=False):
    """Fields of `sfumato.Sharing`."""

    to: str | None
    public: bool
    space: str | None
    dry_run: bool


class SigningFields(TypedDict, total=False):
    """Fields of `sfumato.Signing`."""

    c2pa_certificate: str | None
    c2pa_key: str | None


class PlanOptions(
    ReadingFields,
    PrivacyFields,
    ChoosingFields,
    ScheduleFields,
    PromptingFields,
    RecipeFields,
    PerformanceFields,
    MachineFields,
    MethodFields,
    total=False,
):
    """All keywords of `plan`: single fields, or whole objects."""

    reading: Reading
    privacy: Privacy
    choosing: Choosing
    schedule: Schedule
    prompting: Prompting
    recipe: Recipe
    performance: Performance
    machine: Machine


class AdaptOptions(PlanOptions, ExecutionFields, total=False):
    """All keywords of `adapt`."""

    execution: Execution
    confirm: Confirm | None


class ResumeOptions(ReadingFields, ExecutionFields, MachineFields, total=False):
    """All keywords of `resume`."""

    reading: Reading
    execution: Execution
    machine: Machine


class SynthesizeOptions(SamplingFields, SigningFields, MachineFields, total=False):
    """All keywords of `synthesize`."""

    sampling: Sampling
    signing: Signing
    machine: Machine


class MachineOptions(MachineFields, total=False):
    """All options of `export` and `audit`."""

    machine: Machine


class EvaluateOptions(ReadingFields, JudgingFields, MachineFields, total=False):
    """All keywords of `evaluate`."""

    reading: Reading
    judging: Judging
    machine: Machine


class NearestOptions(ReadingFields, MachineFields, total=False):
    """All keywords of `audit_pictures`."""

    reading: Reading
    machine: Machine


class MatchOptions(ReadingFields, MatchingFields, MachineFields, total=False):
    """All keywords of `match`."""

    reading: Reading
    matching: Matching
    machine: Machine


class SelectOptions(ReadingFields, SelectingFields, MachineFields, total=False):
    """All keywords of `select`."""

    reading: Reading
    selecting: Selecting
    machine: Machine


class PushOptions(SharingFields, total=False):
    """All keywords of `push`."""

    sharing: Sharing


class StartOptions(ReadingFields, total=False):
    """All keywords of `start`."""

    reading: Reading


class LedgerOptions(ReadingFields, total=False):
    """All keywords of `ledger`."""

    reading: Reading
