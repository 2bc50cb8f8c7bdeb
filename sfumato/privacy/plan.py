"""The plan: one frozen object owns sampler, clip, noise, divisor and the events derived from them,
so that they cannot drift apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial

from sfumato.privacy import accounting, checks, clipping, events
from sfumato.privacy.events import Event
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.pricing import events_of, main_event, one_shot_events, price_after, probe_event
from sfumato.privacy.rounding import Rounding

CLIPPINGS = ("flat", "normalised", "per-group", "per-group-normalised")
# The constants of the papers: one of a whole gradient (arXiv 2206.07136), one of a single matrix's
# (arXiv 2605.30312).
GAMMAS = {"normalised": 0.01, "per-group-normalised": 1e-4}
_TUPLES = ("classes", "prompts", "target_modules", "opt_ins")
# fields that a plan which does not use them leaves out
_LATER = ("probe", "clip_groups", "aggregation", "rounding")


@dataclass(frozen=True)
class Plan:
    """What a run may do and what it costs; every field here counts as public. Made by `make_plan`,
    never by hand.

    unit: "record" or the unit column; n_units: slots; expected_batch_size: the divisor B;
    noise_draws: K; noise_multiplier: noise sd / sensitivity; retry_steps: further steps billed for
    resumes; epsilon: the composed cost, rounded up to 3 decimals; probe: the noisy ranking that
    decides what trains; trainable is then the most that can be chosen, and target_modules are the
    candidates. clip_norm: what one unit adds at most, all groups together; clip_groups: how many
    groups share it equally, None for one clip. aggregation: the run is one noisy sum of embeddings
    (one "step" over all units, or a Poisson sample) and no training. rounding: the grid of the
    training sums; None for an aggregation, and for plans from before there was one, which train no
    more. Raises ValueError when the fields contradict each other, the events above all.
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

    def __post_init__(self):
        checks.check_numbers(self)
        checks.check_words(self)
        accounting.check_epsilon(self.epsilon_target)
        if (
            accounting.check_delta(self.delta) >= 1 / self.n_units
            and "large-delta" not in self.opt_ins
        ):
            raise ValueError(checks.large_delta(self.n_units))
        self.clip()
        if self.aggregation is not None:
            checks.check_aggregation(self)
        if self.rounding is not None:
            self.rounding.check(
                self.clip().sensitivity, self.trainable, self.n_units, self.noise_multiplier
            )
        if self.sampling_rate != self.expected_batch_size / self.n_units:
            raise ValueError(
                "sampling_rate must equal expected_batch_size / n_units: make the plan again"
            )
        if self.events != events_of(self):
            raise ValueError("the events do not follow from the plan's fields: make the plan again")
        if not 0 <= self.epsilon <= self.epsilon_target:
            raise ValueError("the plan costs more than its target: make the plan again")

    def clip(self) -> clipping.Clip:
        """The clipping rule of the run."""
        if self.clipping not in CLIPPINGS:
            raise ValueError(f"unknown clipping: use one of {', '.join(CLIPPINGS)}")
        if self.clipping in GAMMAS:
            if self.clip_norm != 1.0:
                raise ValueError(
                    "normalised clipping has sensitivity 1: leave clip_norm out or give 1.0"
                )
            if self.gamma is None:
                raise ValueError("normalised clipping needs a gamma: make the plan again")
        elif self.gamma is not None:
            raise ValueError(
                "gamma belongs to normalised clipping: leave it out or give clipping='normalised'"
            )
        if self.clipping.startswith("per-group"):
            if (
                isinstance(self.clip_groups, bool)
                or not isinstance(self.clip_groups, int)
                or self.clip_groups < 1
            ):
                raise ValueError(
                    "per-group clipping needs clip_groups, an integer >= 1: the number of groups"
                )
            return clipping.per_group(
                clipping.equal_shares(self.clip_norm, self.clip_groups), self.gamma
            )
        if self.clip_groups is not None:
            raise ValueError(
                "clip_groups belongs to per-group clipping: leave it out or give"
                " clipping='per-group'"
            )
        return (
            clipping.flat(self.clip_norm) if self.gamma is None else clipping.normalised(self.gamma)
        )

    @property
    def probe_event(self) -> Event | None:
        """What the probe costs, or None."""
        return self.probe and probe_event(self.probe, self.n_units, self.probe.noise_multiplier)

    @property
    def signal_bound(self) -> float:
        """The most one unit's clipped gradient can be (its norm, all groups together): C, or 1 when
        normalised.
        """
        return self.clip_norm

    @property
    def sensitivity(self) -> float:
        """The most one unit moves the *computed* sum by: C (1 + rho), what the noise is scaled by.
        Without a rounding: C.
        """
        return self.signal_bound if self.rounding is None else self.rounding.sensitivity

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise on the gradient *sum*, per coordinate."""
        return self.noise_multiplier * self.sensitivity

    def noise_norm_expected(self, trainable: int | None = None) -> float:
        """Expected norm of the noise on the *mean* gradient: sigma * sensitivity * sqrt(P) / B, P =
        `trainable` (default: the plan's).
        """
        count = self.trainable if trainable is None else trainable
        return self.noise_stddev * math.sqrt(count) / self.expected_batch_size

    def epsilon_after(self, steps: int) -> float:
        """Epsilon if `steps` training steps were all there is, never above the plan's own: for the
        live line, not for a certificate.

        Interpolated upwards in the root of the step count between 16 prices on a coarse grid; the
        first call takes about a second.
        """
        total = self.steps + self.retry_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps <= total:
            raise ValueError(
                f"steps must be an integer between 0 and {total}: more is not paid for"
            )
        if steps == total or self.aggregation is not None:
            return self.epsilon
        return min(price_after(self, steps), self.epsilon)

    def recompute(self) -> float:
        """Price the events again on the plan's grid (a second); ValueError if that is not the
        plan's epsilon.
        """
        epsilon = accounting.epsilon_of(self.events, self.delta, self.relation, self.grid)
        if abs(epsilon - self.epsilon) > 1e-3 + 1e-9:
            raise ValueError(
                "the plan's epsilon does not follow from its events: make the plan again"
            )
        return epsilon

    def to_json(self) -> dict:
        """A JSON object with one entry per field."""
        body = {**asdict(self), "events": events.to_json(self.events)}
        # What a plan does not use is left out, so that plans from before it was known keep their
        # digest.
        rest = {name: getattr(self, name) for name in _LATER}
        rest = {k: v.to_json() if hasattr(v, "to_json") else v for k, v in rest.items()}
        used = {name: value for name, value in rest.items() if value is not None}
        return (
            {k: v for k, v in body.items() if k not in rest}
            | {name: list(body[name]) for name in _TUPLES}
            | used
        )

    @classmethod
    def from_json(cls, body: Mapping) -> Plan:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        if not isinstance(body, Mapping) or {*body, *_LATER} != {
            field.name for field in fields(cls)
        }:
            raise ValueError("this is not a plan of this version: make the plan again")
        if not all(isinstance(body[name], (list, tuple)) for name in (*_TUPLES, "events")):
            raise ValueError(
                "classes, prompts, target_modules, opt_ins and events must be lists: make the plan"
                " again"
            )
        body = {
            **body,
            **{name: tuple(body[name]) for name in _TUPLES},
            "events": events.from_json(body["events"]),
        }
        if "probe" in body:
            body["probe"] = Probe.from_json(body["probe"])
        if "aggregation" in body:
            body["aggregation"] = Aggregation.from_json(body["aggregation"])
        if "rounding" in body:
            body["rounding"] = Rounding.from_json(body["rounding"])
        return cls(**body)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON form, hex."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def make_plan(
    *,
    method: str,
    unit: str,
    n_units: int,
    max_per_unit: int,
    classes: Sequence[str],
    prompts: Sequence[str],
    epsilon: float,
    delta: float,
    expected_batch_size: float,
    steps: int,
    noise_draws: int,
    clip_norm: float | None,
    base: str,
    base_digest: str,
    trainable: int,
    learning_rate: float,
    clipping: str = "flat",
    clip_groups: int | None = None,
    gamma: float | None = None,
    relation: str = "zero-out",
    histogram_noise_multiplier: float | None = None,
    retry_fraction: float = 0.0,
    warmup_steps: int = 0,
    ema_decay: float = 0.0,
    target_modules: Sequence[str] = (),
    rank: int | None = None,
    grid: float | None = None,
    allow_large_delta: bool = False,
    probe: Probe | None = None,
    probe_share: float = 0.02,
    aggregation: Aggregation | None = None,
) -> Plan:
    """Validate, list every event, solve for the training noise on the composed cost, and freeze it
    all.

    retry_fraction: share of steps billed on top, so that a run may be resumed (retry_steps = its
    ceiling in steps). grid: default 1e-4, 1e-3 above epsilon 20. clip_norm: None with normalised
    clipping, per group or not; clip_groups: the number of groups of per-group clipping. delta >= 1
    / n_units needs allow_large_delta=True, which is recorded as the opt-in "large-delta". probe: a
    ranking to pay for; where it has no noise multiplier it gets the least with which training needs
    at most `probe_share` more noise than without it. Raises ValueError (rule and cure in one line)
    for bad input or a target that cannot be met. Calibration after composing everything: arXiv
    2207.04380 (PLD); K draws averaged before one clip: arXiv 2210.09929.
    """
    epsilon, delta = accounting.check_epsilon(epsilon), accounting.check_delta(delta)
    if isinstance(n_units, bool) or not isinstance(n_units, int) or n_units < 1:
        raise ValueError("n_units must be an integer >= 1: it is the public number of units")
    if not checks.is_number(expected_batch_size) or not 0 < expected_batch_size <= n_units:
        raise ValueError(
            f"expected_batch_size must lie above 0 and at most n_units ({n_units}): lower it"
        )
    if not checks.is_number(retry_fraction) or not 0 <= retry_fraction <= 1:
        raise ValueError(
            "retry_fraction must lie in [0, 1]: 0.05 pays for one resume every twentieth of the run"
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError("steps must be an integer >= 1")
    if clipping in GAMMAS:
        clip_norm = 1.0 if clip_norm is None else clip_norm
        gamma = GAMMAS[clipping] if gamma is None else gamma
    elif clip_norm is None:
        raise ValueError(f"{clipping} clipping needs a clip_norm: try 1.0")
    if delta >= 1 / n_units and not allow_large_delta:
        raise ValueError(checks.large_delta(n_units))
    if histogram_noise_multiplier is not None and not (
        checks.is_number(histogram_noise_multiplier) and histogram_noise_multiplier > 0
    ):
        raise ValueError(
            "histogram_noise_multiplier must be a finite number > 0: try 25, or leave the"
            " histogram out"
        )
    rate, total = expected_batch_size / n_units, steps + math.ceil(steps * retry_fraction)
    draft = partial(
        Plan,
        method=method,
        unit=unit,
        relation=relation,
        n_units=n_units,
        max_per_unit=max_per_unit,
        classes=tuple(classes),
        prompts=tuple(prompts),
        epsilon_target=epsilon,
        delta=delta,
        sampling_rate=rate,
        expected_batch_size=expected_batch_size,
        steps=steps,
        noise_draws=noise_draws,
        clip_norm=clip_norm,
        clipping=clipping,
        gamma=gamma,
        clip_groups=clip_groups,
        histogram_noise_multiplier=histogram_noise_multiplier,
        retry_steps=total - steps,
        base=base,
        base_digest=base_digest,
        trainable=trainable,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        ema_decay=ema_decay,
        target_modules=tuple(target_modules),
        rank=rank,
        aggregation=aggregation,
        opt_ins=("large-delta",) if delta >= 1 / n_units else (),
        grid=(
            (accounting.CERTIFICATE_GRID if epsilon <= 20 else accounting.PLANNING_GRID)
            if grid is None
            else grid
        ),
    )
    # Calibration takes seconds, so every other rule is checked first, on a plan without a price.
    tried = probe and replace(probe, noise_multiplier=probe.noise_multiplier or 1.0)
    one_shot = one_shot_events(histogram_noise_multiplier, tried, n_units)
    last = partial(main_event, aggregation is not None, rate, steps=total)
    checked = draft(noise_multiplier=1.0, epsilon=0.0, probe=tried, events=(*one_shot, last(1.0)))
    if aggregation is None:
        draft = partial(draft, rounding=Rounding.of(checked.clip().sensitivity, trainable))
    if probe is not None:
        if not checks.is_number(probe_share) or not 0 < probe_share <= 1:
            raise ValueError(
                "probe_share must lie in (0, 1]: 0.02 lets the training noise rise by 2 %"
            )
        others = one_shot_events(histogram_noise_multiplier, None, n_units)
        before = accounting.calibrate(others, rate, total, epsilon, delta, relation, checked.grid)
        probe = replace(probe, noise_before=before)
        if probe.noise_multiplier is None:
            training = last(before * (1 + probe_share))
            noise = accounting.calibrate_probe(
                others,
                partial(probe_event, probe, n_units),
                training,
                epsilon,
                delta,
                relation,
                checked.grid,
            )
            probe = replace(probe, noise_multiplier=noise)
        one_shot, draft = (
            one_shot_events(histogram_noise_multiplier, probe, n_units),
            partial(draft, probe=probe),
        )
    noise_multiplier = accounting.calibrate(
        one_shot, rate, total, epsilon, delta, relation, checked.grid
    )
    all_events = (*one_shot, last(noise_multiplier))
    reached = accounting.epsilon_of(all_events, delta, relation, checked.grid)
    return draft(noise_multiplier=noise_multiplier, epsilon=reached, events=all_events)
