"""From a noisy histogram to the parents of the next population: free post-processing."""

from __future__ import annotations

import numpy as np

from ...privacy.mechanisms.histogram import GRID, VoteHistogram


def parents(
    voting: VoteHistogram,
    noisy: np.ndarray,
    noise_multiplier: float,
    threshold: float,
    seed: int,
    step: int,
) -> np.ndarray:
    """Returns int64 [candidates], sorted: which candidate each place of the next table is made of.

    Votes below `threshold` standard deviations of the noise count as none, and the rest are
    resampled within each class, as evenly as whole places allow (systematic resampling). A class
    in which no candidate is left keeps all of its own.

    Args:
        voting: The mechanism.
        noisy: int64 [candidates] in grid units.
        noise_multiplier: Noise sd / sensitivity.
        threshold: In standard deviations of the noise.
        seed: Public.
        step: The round.
    """
    votes = noisy.reshape(voting.classes, voting.of_class) / GRID
    votes = np.where(votes >= threshold * noise_multiplier, np.maximum(votes, 0), 0.0)
    votes[votes.sum(1) == 0] = 1.0
    rng = np.random.default_rng((seed, step))
    found: list[np.ndarray] = []
    for number, own in enumerate(votes):
        ends = np.cumsum(own) / own.sum() * voting.of_class
        ends[-1] = voting.of_class
        places = np.arange(voting.of_class) + rng.random()
        found.append(number * voting.of_class + np.searchsorted(ends, places, side="right"))
    return np.minimum(np.concatenate(found), voting.candidates - 1)


def elders(chosen: np.ndarray) -> np.ndarray:
    """Bool: the first place of every parent, which stays as it is; the others are varied."""
    return np.concatenate([[True], chosen[1:] != chosen[:-1]])
