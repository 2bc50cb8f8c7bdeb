"""Are released pictures nearer to private ones than they should be, and are some of them copies?

Distances here are exact functions of private images: PRIVATE, and a look (`verbs.nearest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

from sfumato.errors import SfumatoError

SURE = 0.95
NEIGHBOURS = 50  # of arXiv 2301.13188
RATIO = 0.5  # likewise
DRAWS = 999  # ways to deal the units, and draws of the bootstrap
BLOCK = 256  # released pictures whose distances are held at a time


class Share(NamedTuple):
    """A share with its interval, 95 % sure.

    Attributes:
        value: 0 to 1.
        low: Of the interval.
        high: Of the interval.
    """

    value: float
    low: float
    high: float


class Middle(NamedTuple):
    """A median with its interval over released pictures, 95 % sure, in the features' unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Nearness:
    """What the distances say. PRIVATE.

    Attributes:
        features: Name of the features.
        released: Released pictures.
        units: Units on each side of the comparison.
        to_train: Distance to the nearest private picture, of as many units as were held out.
        to_test: Distance to the nearest held-out picture.
        nearer: Share of the released pictures that are nearer to a private than to a held-out one.
        expected: Where that share lies for 95 of 100 ways to deal the same units to the two sides.
        p: Share of the ways to deal them that give at least such a share: small if pictures were
            memorised.
        copies: Share of the released pictures that are copies of one private picture.
        control: The same against the held-out pictures, which no model has seen.
        ratio: Of each released picture, distance to the nearest private picture over the mean
            distance to the next ones, float [n].
        nearest: Position of the nearest private picture of each, int64 [n].
        nearest_test: Position of the nearest held-out picture of each, int64 [n].
        distance: From each to its nearest private picture, float [n].
        distance_test: From each to its nearest held-out picture, float [n].
    """

    features: str
    released: int
    units: int
    to_train: Middle
    to_test: Middle
    nearer: Share
    expected: tuple[float, float]
    p: float
    copies: Share
    control: Share
    ratio: np.ndarray
    nearest: np.ndarray
    nearest_test: np.ndarray
    distance: np.ndarray
    distance_test: np.ndarray

    @property
    def memorised(self) -> bool:
        """Whether the pictures are nearer to the private ones than chance explains, or copies."""
        return self.p <= 1 - SURE or self.copies.low > self.control.high


def nearness(
    released: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    train_units: np.ndarray,
    test_units: np.ndarray,
    *,
    features: str,
    seed: int = 0,
) -> Nearness:
    """Compares each released picture with its nearest private and its nearest held-out picture.

    A model that memorised nothing is as near to units that it saw as to units of the same kind that
    it did not see, so that every way to deal the units to the two sides is as likely (a permutation
    test by units, on the comparison of arXiv 2004.05675). That needs held-out units which were set
    apart by lot, as `sfumato split` does. A copy is a picture whose nearest private picture is less
    than half as far as the next `NEIGHBOURS` are on average (arXiv 2301.13188).

    Args:
        released: Features of the released pictures, float [n, d].
        train: Of the private pictures, float [a, d].
        test: Of the held-out pictures, float [b, d].
        train_units: Unit of each private picture, int [a].
        test_units: Unit of each held-out picture, int [b].
        features: What they are called.
        seed: Of the order in which units are dealt.

    Returns:
        The comparison. PRIVATE.

    Raises:
        SfumatoError: Fewer than three pictures of the release, or fewer than three units on a side.
    """
    rng = np.random.default_rng(seed)
    few = min(len(np.unique(train_units)), len(np.unique(test_units)))
    if min(len(released), few) < 3:
        raise SfumatoError(
            "distances need at least three released pictures, and three units that were trained on"
            " and three held-out ones: give more"
        )
    dealt = [_dealt(own, few, rng) for own in (train_units, test_units)]
    numbers = np.concatenate([dealt[0][1], few + dealt[1][1]])  # of the unit of each picture
    order = rng.permutation(len(numbers))  # so that of several nearest ones any is the first
    parts = []
    for start in range(0, len(released), BLOCK):
        found = [_to(released[start : start + BLOCK], own) for own in (train, test)]
        both = [own[:, places] for own, (places, _) in zip(found, dealt)]
        first = np.concatenate(both, 1)[:, order].argmin(1)
        own = [number for one in found for number in (_ratio(one), one.argmin(1), one.min(1))]
        parts.append((both[0].min(1), both[1].min(1), numbers[order[first]], *own))
    to_train, to_test, unit, ratio, nearest, distance, control, nearest_test, distance_test = map(
        np.concatenate, zip(*parts)
    )
    nearer = float(np.mean(unit < few))
    by_lot = [float(np.mean(rng.permutation(2 * few)[unit] < few)) for _ in range(DRAWS)]
    spread = [float(np.mean(unit[drawn] < few)) for drawn in _again(len(unit), rng)]
    return Nearness(
        features,
        len(released),
        few,
        _middle(to_train, rng),
        _middle(to_test, rng),
        Share(nearer, *_sure(spread)),
        _sure(by_lot),
        (1 + sum(share >= nearer - 1e-12 for share in by_lot)) / (1 + len(by_lot)),
        _counted(int((ratio < RATIO).sum()), len(ratio)),
        _counted(int((control < RATIO).sum()), len(control)),
        ratio,
        nearest,
        nearest_test,
        distance,
        distance_test,
    )


def _dealt(units: np.ndarray, few: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of `few` units that the lot has chosen, and the number of the unit of each."""
    chosen = rng.permutation(np.unique(units))[:few]
    places = np.flatnonzero(np.isin(units, chosen))
    return places, np.unique(units[places], return_inverse=True)[1]


def _to(released: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Euclidean distances float32 [n, m]."""
    x, y = np.asarray(released, np.float64), np.asarray(real, np.float64)
    squared = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
    return np.sqrt(squared.clip(0)).astype(np.float32)


def _again(n: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of a bootstrap, int [DRAWS, n]."""
    return rng.integers(0, n, (DRAWS, n))


def _middle(distances: np.ndarray, rng: np.random.Generator) -> Middle:
    spread = [float(np.median(distances[drawn])) for drawn in _again(len(distances), rng)]
    return Middle(float(np.median(distances)), *_sure(spread))


def _sure(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def _ratio(distances: np.ndarray) -> np.ndarray:
    """Nearest over the mean of the next ones, float [n]; 1 where there are no next ones."""
    k = min(NEIGHBOURS + 1, distances.shape[1])
    near = np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1)
    rest = near[:, 1:].mean(1) if k > 1 else near[:, 0]
    return np.where(rest > 0, near[:, 0] / np.where(rest > 0, rest, 1), 1.0)


def _counted(found: int, of: int) -> Share:
    """A share of counted pictures, with the exact interval of Clopper and Pearson."""
    side = (1 - SURE) / 2
    low = 0.0 if found == 0 else float(beta.ppf(side, found, of - found + 1))
    high = 1.0 if found == of else float(beta.ppf(1 - side, found + 1, of - found))
    return Share(found / of, low, high)
