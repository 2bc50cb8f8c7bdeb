"""From cached latents to noisy class moments: the unit's bound, then noise once for each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...privacy.mechanisms.moments import GRID, STEP, Moments
from ...privacy.random.keys import RunKey
from ...privacy.random.noise import noisy_vector

SURE, LEAST = 0.5, 0.1  # of a divisor: how far it may be off, and what a class keeps
UNITS = 128  # bounded at once, so that memory does not grow with their number


@dataclass(frozen=True)
class Small:
    """Latents scaled down, a picture at a time: a public function of one image alone.

    latents: [n, C, h, w], as they are cached. side: of the small pictures.
    """

    latents: np.ndarray
    side: int

    def __getitem__(self, images: np.ndarray) -> np.ndarray:
        """float64 [k, C * side * side] of some images."""
        taken = np.stack([small(self.latents[i], self.side) for i in images])
        return taken.reshape(len(taken), -1)


def small(latent: np.ndarray, side: int) -> np.ndarray:
    """One latent [C, h, w] as means of areas, float64 [C, side, side]; never larger than it is."""
    plain = torch.from_numpy(np.asarray(latent, np.float64))[None]
    return F.adaptive_avg_pool2d(plain, size_of(latent.shape, side))[0].numpy()


def size_of(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width of the small pictures of latents of a shape (C, h, w)."""
    _, height, width = shape
    return min(side, height), min(side, width)


def bounded_total(
    moments: Moments,
    round_: int,
    pictures: Small,
    label: np.ndarray,
    owned: Sequence[np.ndarray],
    means: np.ndarray | None = None,
    tell: Callable[[int], None] = lambda units: None,
) -> np.ndarray:
    """The sum of the units' bounded vectors, int64 [classes, any] in grid units.

    Not yet noisy, so PRIVATE. Integers add exactly. A unit adds the mean of what its usable images
    would add, each in the block of its class.

    Args:
        moments: The mechanism.
        round_: 0, or 1 with `means`.
        pictures: Of all images.
        label: int64 [n]; an image with -1 adds nothing.
        owned: The images of each unit.
        means: Noisy class means, float64 [classes, numbers].
        tell: Called with how many units are done.
    """
    size = moments.products if round_ else moments.columns
    total = np.zeros((moments.classes, size), np.int64)
    for start in range(0, len(owned), UNITS):
        part = owned[start : start + UNITS]
        alone = [images[0] for images in part if len(images) == 1]
        if alone:
            # an unusable one goes through as zeros: it must not change how the others are cut
            where = np.asarray(alone)
            rows = _rows(moments, round_, pictures, label, where, means)
            np.add.at(total, np.maximum(label[where], 0), moments.unit_rows(rows))
        for images in part:
            use = images[label[images] >= 0] if len(images) > 1 else images[:0]
            if len(use):
                rows = _rows(moments, round_, pictures, label, use, means) / len(use)
                seen = np.unique(label[use])
                blocks = np.stack([rows[label[use] == c].sum(0) for c in seen])
                bounded = moments.unit_rows(blocks.reshape(1, -1))
                total[seen] += bounded.reshape(blocks.shape)
        tell(min(start + UNITS, len(owned)))
    return total


def _rows(
    moments: Moments,
    round_: int,
    pictures: Small,
    label: np.ndarray,
    images: np.ndarray,
    means: np.ndarray | None,
) -> np.ndarray:
    """What images would add on their own; zeros for one without a label."""
    found = pictures[images]
    if round_:
        assert means is not None
        found = found - means[np.maximum(label[images], 0)]
    rows = moments.rows_of(round_, found)
    rows[label[images] < 0] = 0.0
    return rows


def add_noise_once(
    moments: Moments, round_: int, total: np.ndarray, key: RunKey, attempt: int
) -> np.ndarray:
    """The noisy sums of a round, int64 of the same shape; all rounds are billed as one Gaussian.

    Args:
        moments: The mechanism, with its noise.
        round_: Part of the noise's address.
        total: int64 [classes, any], in grid units.
        key: The run key of the attempt.
        attempt: The attempt.
    """
    flat, name = total.reshape(-1), f"moments/{round_}"
    noisy = noisy_vector(flat, moments.noise_stddev, key, step=STEP, attempt=attempt, name=name)
    return noisy.reshape(total.shape)


def class_sizes(moments: Moments, noisy: np.ndarray) -> np.ndarray:
    """How many units a class has, float64 [classes]: by the noisy count, as far as that tells.

    The public divisor is where it starts from, held to be right within a half: counts with less
    noise than that weigh more. A class keeps a tenth of its divisor at least. Without counts, the
    divisors.

    Args:
        moments: The mechanism, with its noise.
        noisy: int64, the first round's noisy sums.
    """
    start = np.asarray(moments.divisors, np.float64)
    if not moments.counting:
        return start
    per_unit = moments.counting * GRID  # grid units that a unit adds
    counted = noisy[:, -1] / per_unit
    prior = (SURE * start) ** 2
    trust = prior / (prior + (moments.noise_stddev / per_unit) ** 2)
    return np.maximum(start + trust * (counted - start), LEAST * start)


def class_means(moments: Moments, noisy: np.ndarray) -> np.ndarray:
    """The first round's noisy sums, divided by `class_sizes`: float64 [classes, numbers]."""
    sums = noisy[:, : moments.numbers] * moments.unit(0)
    return sums / class_sizes(moments, noisy)[:, None]


def release(
    moments: Moments,
    pictures: Small,
    label: np.ndarray,
    owned: Sequence[np.ndarray],
    key: RunKey,
    attempt: int,
    tell: Callable[[int, int], None] = lambda round_, units: None,
) -> list[np.ndarray]:
    """The noisy sums of all rounds, int64; the second is asked around the first's noisy means.

    Args:
        moments: The mechanism, with its noise.
        pictures: Of all images.
        label: As in `bounded_total`.
        owned: As in `bounded_total`.
        key: The run key of the attempt.
        attempt: The attempt.
        tell: Called with the round and how many units are done.
    """
    out: list[np.ndarray] = []
    for round_ in range(moments.rounds):
        means = class_means(moments, out[0]) if round_ else None

        def told(units: int, now: int = round_) -> None:
            tell(now, units)

        total = bounded_total(moments, round_, pictures, label, owned, means, told)
        out.append(add_noise_once(moments, round_, total, key, attempt))
    return out
