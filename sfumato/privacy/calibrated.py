"""Noise of the queries before training: of the probe, and of the vote for a base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sfumato.privacy import accounting
from sfumato.privacy.events import Event
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.pricing import one_shot_events, probe_event, vote_events
from sfumato.privacy.request import Request


def calibrated_probe(
    asked: Request, probe: Probe, grid: float, last: Callable[[float], Event]
) -> Probe:
    """The probe with its noise, and with the noise that training would need without it."""
    terms = (asked.epsilon, asked.delta, asked.relation, grid)
    others = (
        *vote_events(asked.base_vote),
        *one_shot_events(asked.histogram_noise_multiplier, None, asked.n_units),
    )
    total = asked.steps + asked.retry_steps
    before = accounting.calibrate(others, asked.sampling_rate, total, *terms)
    probe = replace(probe, noise_before=before)
    if probe.noise_multiplier is not None:
        return probe
    event = partial(probe_event, probe, asked.n_units)
    training = last(before * (1 + asked.probe_share))
    return replace(
        probe, noise_multiplier=accounting.calibrate_probe(others, event, training, *terms)
    )


def calibrated_vote(asked: Request, vote: BaseVote, grid: float) -> BaseVote:
    """The vote with noise that alone costs its epsilon, and the training noise without it."""
    terms = (asked.delta, asked.relation, grid)
    total = asked.steps + asked.retry_steps
    others = one_shot_events(asked.histogram_noise_multiplier, None, asked.n_units)
    before = accounting.calibrate(others, asked.sampling_rate, total, asked.epsilon, *terms)
    own = accounting.calibrate((), 1.0, 1, asked.base_vote_epsilon, *terms)
    return replace(vote, noise_multiplier=own, noise_before=before)
