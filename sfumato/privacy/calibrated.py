"""Noise of the queries before training: of the probe, the vote for a base, and class moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sfumato.privacy import calibration
from sfumato.privacy.events import Event
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe
from sfumato.privacy.pricing import (
    moments_events,
    one_shot_events,
    probe_event,
    vote_events,
)
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
    before = calibration.calibrate(others, asked.sampling_rate, total, *terms)
    probe = replace(probe, noise_before=before)
    if probe.noise_multiplier is not None:
        return probe
    event = partial(probe_event, probe, asked.n_units)
    training = last(before * (1 + asked.probe_share))
    return replace(
        probe, noise_multiplier=calibration.calibrate_probe(others, event, training, *terms)
    )


def calibrated_vote(asked: Request, vote: BaseVote, grid: float) -> BaseVote:
    """The vote with noise that alone costs its epsilon, and the training noise without it."""
    terms = (asked.delta, asked.relation, grid)
    total = asked.steps + asked.retry_steps
    others = one_shot_events(asked.histogram_noise_multiplier, None, asked.n_units)
    before = calibration.calibrate(others, asked.sampling_rate, total, asked.epsilon, *terms)
    own = calibration.calibrate((), 1.0, 1, asked.base_vote_epsilon, *terms)
    return replace(vote, noise_multiplier=own, noise_before=before)


def calibrated_moments(
    asked: Request, moments: Moments, grid: float, last: Callable[[float], Event]
) -> Moments:
    """The class moments with the least noise that leaves training its share.

    Args:
        asked: The request.
        moments: Without noise.
        grid: Discretisation of the accountant.
        last: Noise multiplier -> training's event.

    Returns:
        The same with their noise, and with the noise that training would need without them.

    Raises:
        ValueError: No noise is cheap enough.
    """
    terms = (asked.epsilon, asked.delta, asked.relation, grid)
    others = (
        *vote_events(asked.base_vote),
        *one_shot_events(asked.histogram_noise_multiplier, None, asked.n_units),
    )
    total = asked.steps + asked.retry_steps
    before = calibration.calibrate(others, asked.sampling_rate, total, *terms)

    def event(noise_multiplier: float) -> Event:
        (found,) = moments_events(replace(moments, noise_multiplier=noise_multiplier))
        return found

    training = last(before * (1 + asked.moments_share))
    try:
        noise = calibration.calibrate_probe(others, event, training, *terms)
    except ValueError as error:
        raise ValueError(
            "no class moments are cheap enough for this share of the budget: raise"
            " --warm-up-share, or leave --warm-up out"
        ) from error
    return replace(moments, noise_multiplier=noise, noise_before=before)
