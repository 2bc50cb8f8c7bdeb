"""One round's votes: every image names its nearest candidates, and their sum gets noise once."""

from __future__ import annotations

import numpy as np

from ...privacy.mechanisms.histogram import NAME, VoteHistogram
from ...privacy.random.keys import RunKey
from ...privacy.random.noise import noisy_vector

# Slots whose distances are one product. The shape of no product follows from what is in a slot, so
# that a unit with nothing in its place leaves the votes of all others as they are, to the last bit.
CHUNK = 1024


def nearest(
    voting: VoteHistogram,
    features: np.ndarray,
    label: np.ndarray,
    order: np.ndarray,
    table: np.ndarray,
) -> np.ndarray:
    """Returns int64 [n, votes]: the candidates of its class that are nearest to each image.

    A slot without a class, or whose features are not finite, names -1. Of equally near candidates
    the first is named.

    Args:
        voting: The mechanism.
        features: Float [n, d] of all slots.
        label: int64 [n], -1 for what cannot be used.
        order: int64 [n], in which slots are cut into chunks: the source's own, public.
        table: float32 [candidates, d]; the candidates of a class lie together, class by class.
    """
    named = np.full((len(label), voting.votes), -1, np.int64)
    # Distances are compared after taking off what all have in common, for the digits' sake; it is
    # the public table's.
    middle = table.mean(0, keepdims=True)
    table = np.where(np.isfinite(table), table - middle, np.float32(0))
    length = (table.astype(np.float64) ** 2).sum(1).astype(np.float32)
    for start in range(0, len(order), CHUNK):
        slots = order[start : start + CHUNK]
        own, mark = np.asarray(features[slots], np.float32), label[slots]
        sound = np.isfinite(own).all(1) & (mark >= 0) & (mark < voting.classes)
        own = np.where(sound[:, None], own - middle, np.float32(0))
        with np.errstate(over="ignore", invalid="ignore"):  # nothing is said of a private image
            far = length - 2 * (own @ table.T)
        far = far.reshape(len(slots), voting.classes, voting.of_class)
        far = far[np.arange(len(slots)), np.where(sound, mark, 0)]
        first = np.argsort(far, axis=1, kind="stable")[:, : voting.votes]
        whole = first + (mark * voting.of_class)[:, None]
        named[slots] = np.where(sound[:, None], whole, -1)
    return named


def noisy_votes(
    voting: VoteHistogram,
    noise_multiplier: float,
    named: np.ndarray,
    owned: list[np.ndarray],
    key: RunKey,
    step: int,
    attempt: int,
) -> np.ndarray:
    """Returns the noisy histogram of a round, int64 [candidates] in grid units.

    Billed as one of the plan's Gaussian mechanisms.

    Args:
        voting: The mechanism.
        noise_multiplier: Noise sd / sensitivity.
        named: As `nearest` returns it.
        owned: The images of each unit.
        key: The run key of the attempt.
        step: The round, which with the attempt is the address of the noise.
        attempt: The attempt.
    """
    total = voting.total(named, owned)
    stddev = voting.noise_stddev(noise_multiplier)
    return noisy_vector(total, stddev, key, step=step, attempt=attempt, name=NAME)
