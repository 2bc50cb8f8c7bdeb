"""The plan: one frozen object owns sampler, clip, noise and divisor, and derives the events.

So they cannot drift apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from sfumato.privacy import accounting, calibration, checks, clipping, events
from sfumato.privacy.calibrated import calibrated_moments, calibrated_probe, calibrated_vote
from sfumato.privacy.events import Event
from sfumato.privacy.fields import Fields
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.pricing import (
    events_of,
    main_event,
    moments_events,
    one_shot_events,
    own_event,
    price_after,
    sums_of_all,
    vote_events,
)
from sfumato.privacy.request import GAMMAS, Request
from sfumato.privacy.rounding import Rounding

CLIPPINGS = ("flat", "normalised", "per-group", "per-group-normalised")
_TUPLES = ("classes", "prompts", "target_modules", "opt_ins")
# fields that a plan which does not use them leaves out
_LATER = (
    *("probe", "clip_groups", "aggregation", "rounding"),
    *("captions", "prompts_file", "voting", "base_vote", "moments"),
)


@dataclass(frozen=True)
class Plan(Fields):
    """What a run may do and what it costs. Made by `make_plan`, never by hand.

    Raises ValueError when the fields contradict each other, the events above all.
    """

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
        if self.voting is not None:
            checks.check_voting(self)
        checks.check_base_vote(self)
        if self.moments is not None:
            checks.check_moments(self)
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
        return None if self.probe is None else own_event(self.probe, self.n_units)

    @property
    def signal_bound(self) -> float:
        """The largest norm of one unit's clipped gradient, all groups together.

        C, or 1 when normalised.
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
        """Expected norm of the noise on the *mean* gradient: sigma * sensitivity * sqrt(P) / B.

        Args:
            trainable: P; None: the plan's.

        Returns:
            The norm, in units of the gradient.
        """
        count = self.trainable if trainable is None else trainable
        return self.noise_stddev * math.sqrt(count) / self.expected_batch_size

    def epsilon_after(self, steps: int) -> float:
        """Epsilon if training stopped after `steps`, never above the plan's own.

        For the live line, not for a certificate. Interpolated upwards in the root of the step count
        between 16 prices on a coarse grid; the first call takes about a second.

        Args:
            steps: 0 to the number of steps that are paid for.

        Returns:
            An upper estimate.

        Raises:
            ValueError: `steps` is out of range.
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
        """Prices the events again on the plan's grid, which takes about a second.

        Returns:
            Epsilon.

        Raises:
            ValueError: It is not the plan's epsilon.
        """
        epsilon = accounting.epsilon_of(self.events, self.delta, self.relation, self.grid)
        if abs(epsilon - self.epsilon) > 1e-3 + 1e-9:
            raise ValueError(
                "the plan's epsilon does not follow from its events: make the plan again"
            )
        return epsilon

    def to_json(self) -> dict[str, Any]:
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
    def from_json(cls, body: Mapping[str, Any]) -> Plan:
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
        if "voting" in body:
            body["voting"] = VoteHistogram.from_json(body["voting"])
        if "base_vote" in body:
            body["base_vote"] = BaseVote.from_json(body["base_vote"])
        if "moments" in body:
            body["moments"] = Moments.from_json(body["moments"])
        return cls(**body)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON form, hex."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def make_plan(request: Request) -> Plan:
    """Lists every event, solves for the training noise on the composed cost, and freezes the plan.

    Calibration after composing everything: arXiv 2207.04380 (PLD); K draws averaged before one
    clip: arXiv 2210.09929.

    Args:
        request: What is asked for.

    Returns:
        The plan.

    Raises:
        ValueError: Bad input, or a target that cannot be met; rule and cure in one line.
    """
    asked, draft = request, partial(Plan, **request.terms())
    rate, total = asked.sampling_rate, asked.steps + asked.retry_steps
    of_all = sums_of_all(asked.aggregation, asked.voting)
    last = partial(main_event, of_all, rate, steps=total)
    # Calibration takes seconds, so every other rule is checked first, on a plan without a price.
    tried = asked.probe and replace(
        asked.probe, noise_multiplier=asked.probe.noise_multiplier or 1.0
    )
    vote = asked.base_vote and replace(asked.base_vote, noise_multiplier=1.0)
    known = asked.moments and replace(asked.moments, noise_multiplier=1.0)
    one_shot = (
        *vote_events(vote),
        *one_shot_events(asked.histogram_noise_multiplier, tried, asked.n_units),
        *moments_events(known),
    )
    checked = draft(
        noise_multiplier=1.0,
        epsilon=0.0,
        probe=tried,
        base_vote=vote,
        moments=known,
        events=(*one_shot, last(1.0)),
    )
    if not of_all:
        rounding = Rounding.of(checked.clip().sensitivity, asked.trainable)
        draft = partial(draft, rounding=rounding)
    if asked.base_vote is not None:
        asked = replace(asked, base_vote=calibrated_vote(asked, asked.base_vote, checked.grid))
        draft = partial(draft, base_vote=asked.base_vote)
    votes = vote_events(asked.base_vote)
    probe = asked.probe
    if probe is not None:
        probe = calibrated_probe(asked, probe, checked.grid, last)
        draft = partial(draft, probe=probe)
    beside = one_shot_events(asked.histogram_noise_multiplier, probe, asked.n_units)
    moments = asked.moments
    if moments is not None:
        moments = calibrated_moments(asked, moments, checked.grid, last)
        draft = partial(draft, moments=moments)
    one_shot = (*votes, *beside, *moments_events(moments))
    noise_multiplier = calibration.calibrate(
        one_shot, rate, total, checked.epsilon_target, asked.delta, asked.relation, checked.grid
    )
    all_events = (*one_shot, last(noise_multiplier))
    reached = accounting.epsilon_of(all_events, asked.delta, asked.relation, checked.grid)
    return draft(noise_multiplier=noise_multiplier, epsilon=reached, events=all_events)
