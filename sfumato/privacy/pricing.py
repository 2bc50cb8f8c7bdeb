"""What a plan's fields cost: the events that follow from them, and the price of the first steps."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from sfumato.privacy import accounting
from sfumato.privacy.events import Event, Gaussian, Laplace, PoissonGaussian
from sfumato.privacy.fields import Fields
from sfumato.privacy.mechanisms.base_vote import BaseVote
from sfumato.privacy.mechanisms.histogram import VoteHistogram
from sfumato.privacy.mechanisms.mean import Aggregation
from sfumato.privacy.mechanisms.moments import Moments
from sfumato.privacy.mechanisms.votes import Probe


def events_of(plan: Fields) -> tuple[Event, ...]:
    """Every event that the plan's fields stand for; training, aggregation or votes last."""
    last = main_event(
        sums_of_all(plan.aggregation, plan.voting),
        plan.sampling_rate,
        plan.noise_multiplier,
        plan.steps + plan.retry_steps,
    )
    beside = one_shot_events(plan.histogram_noise_multiplier, plan.probe, plan.n_units)
    return (*vote_events(plan.base_vote), *beside, *moments_events(plan.moments), last)


def sums_of_all(aggregation: Aggregation | None, voting: VoteHistogram | None) -> bool:
    """Whether a run's sums are no gradients of drawn units: one aggregation, or rounds of votes."""
    return aggregation is not None or voting is not None


def main_event(of_all: bool, sampling_rate: float, noise_multiplier: float, steps: int) -> Event:
    """Returns the event of training, of an aggregation, or of all rounds of votes.

    An aggregation of all units is one Gaussian mechanism, of a Poisson sample one subsampled
    Gaussian step; rounds of votes are as many Gaussian mechanisms.

    Args:
        of_all: As `sums_of_all` says.
        sampling_rate: Chance of a unit to be in a step, or in the sum.
        noise_multiplier: Noise sd / sensitivity.
        steps: Training steps that are billed.
    """
    if of_all and sampling_rate == 1:
        return Gaussian(noise_multiplier, steps)
    return PoissonGaussian(sampling_rate, noise_multiplier, steps)


def one_shot_events(
    histogram: float | None, probe: Probe | None, n_units: int
) -> tuple[Event, ...]:
    """Returns the events of the queries beside training, for those that are made.

    Args:
        histogram: Its noise multiplier.
        probe: The saliency probe.
        n_units: The public number of units.
    """
    paid = () if histogram is None else (Gaussian(histogram),)
    return paid if probe is None else (*paid, own_event(probe, n_units))


def vote_events(vote: BaseVote | None) -> tuple[Event, ...]:
    """Returns the event of the vote for a base, which comes before all others, if there is one."""
    if vote is None:
        return ()
    if vote.noise_multiplier is None:
        raise ValueError("the vote for a base has no noise multiplier: make the plan again")
    return (Gaussian(vote.noise_multiplier),)


def moments_events(moments: Moments | None) -> tuple[Event, ...]:
    """What class moments cost with their own noise: one Gaussian over all units in each round."""
    if moments is None:
        return ()
    if moments.noise_multiplier is None:
        raise ValueError("the class moments have no noise multiplier: make the plan again")
    return (Gaussian(moments.noise_multiplier, moments.rounds),)


def probe_event(probe: Probe, n_units: int, noise_multiplier: float) -> Event:
    """Returns the event of a probe on a Poisson sample of units, or on all of them.

    `noise_multiplier` is in units of the probe's own sensitivity.
    """
    rate = probe.expected_batch_size / n_units
    return Gaussian(noise_multiplier) if rate == 1 else PoissonGaussian(rate, noise_multiplier, 1)


def own_event(probe: Probe, n_units: int) -> Event:
    """What a probe costs with its own noise, which a plan has set."""
    if probe.noise_multiplier is None:
        raise ValueError("the probe has no noise multiplier: make the plan again")
    return probe_event(probe, n_units, probe.noise_multiplier)


def price_after(plan: Fields, steps: int) -> float:
    """Returns an upper estimate of epsilon after `steps` of the plan's paid training steps.

    From a table that is computed once per plan.
    """
    grid = accounting.PLANNING_GRID * min(max(plan.epsilon, 1.0), 10.0)
    return accounting.round_up(
        _between(*_price_table(plan.events, plan.delta, plan.relation, grid), steps)
    )


@lru_cache(maxsize=8)
def _price_table(
    all_events: tuple[Event, ...], delta: float, relation: str, grid: float
) -> tuple[list[int], list[float]]:
    """Prices of the first t steps at 17 values of t from 0 to all, spaced evenly in sqrt(t)."""
    *one_shot, training = all_events
    if isinstance(training, Laplace):
        raise ValueError("only training and votes have a price by steps")
    total = training.count if isinstance(training, Gaussian) else training.steps
    at = sorted({math.ceil(total * (i / 16) ** 2) for i in range(17)})
    cost: list[float] = []
    for steps in at:
        name = "count" if isinstance(training, Gaussian) else "steps"
        spent = [replace(training, **{name: steps})] if steps else []
        cost.append(accounting.exact_epsilon((*one_shot, *spent), delta, relation, grid))
    return at, cost


def _between(at: list[int], cost: list[float], steps: int) -> float:
    """Returns an upper estimate between tabulated prices.

    The chord where the cost is convex in sqrt(steps), the previous chord where it is not.
    """
    i = bisect_left(at, steps)
    if at[i] == steps or i == 1:
        return cost[i]
    here = math.sqrt(steps)
    ends = [(math.sqrt(at[j]), cost[j]) for j in (i - 2, i - 1, i)]
    lines = [
        y + (here - x) * (other_y - y) / (other_x - x)
        for (x, y), (other_x, other_y) in pairwise(ends)
    ]
    return min(max(lines), cost[i])
