"""Selection among runs by noisy accuracies on held-out units.

What one held-out unit adds is a vector of integers of bounded norm; their sum gets noise once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

HALF = 1024  # grid units of one half of a unit's accuracy
# Its address in the key schedule; its key is drawn for one selection and never kept.
STEP, NAME = (1 << 40) + 2, "selection"


@dataclass(frozen=True)
class Selection:
    """One noisy sum over all held-out units of how right each of `candidates` classifiers is.

    All of it is public.

    A unit adds, for each candidate, its share of right answers less one half, in [-1/2, 1/2]: with
    nothing in a unit's place (zero-out) that is a change of at most 1/2 each, hence
    sqrt(candidates) / 2 in L2, half of what shares in [0, 1] would take. n_units: held-out units,
    unreadable ones included; noise_multiplier = stddev / sensitivity. ValueError out of range.
    """

    candidates: int
    n_units: int
    noise_multiplier: float

    def __post_init__(self):
        for name in ("candidates", "n_units"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the selection's {name} must be an integer >= 1")
        if not math.isfinite(self.noise_multiplier) or self.noise_multiplier <= 0:
            raise ValueError("the selection's noise_multiplier must be a finite number > 0")

    @property
    def sensitivity(self) -> int:
        """The largest L2 norm of what one unit adds, in grid units.

        HALF * sqrt(candidates), rounded up.
        """
        return math.isqrt(HALF * HALF * self.candidates - 1) + 1

    @property
    def noise_stddev(self) -> int:
        """Standard deviation of the noise on each sum, in grid units.

        Rounded up: never below noise_multiplier * sensitivity.
        """
        return math.ceil(Fraction(self.noise_multiplier) * self.sensitivity)

    def contributions(self, right: np.ndarray, images: np.ndarray) -> np.ndarray:
        """What each unit adds, every entry in [-HALF, HALF]; a unit without images adds zeros.

        Rounded towards zero in integers, which never raises a norm.

        Args:
            right: int [U, candidates], how many of a unit's images each candidate classifies
                correctly.
            images: int [U], how many readable images each unit has.

        Returns:
            int64 [U, candidates] in grid units.

        Raises:
            ValueError: Impossible counts.
        """
        right, images = np.asarray(right, np.int64), np.asarray(images, np.int64)
        if (
            right.shape != (len(images), self.candidates)
            or (right < 0).any()
            or (right > images[:, None]).any()
        ):
            raise ValueError(
                "right answers are counted for each unit and candidate, and there are no more than"
                " images"
            )
        margin = (2 * right - images[:, None]) * HALF
        return np.sign(margin) * (np.abs(margin) // np.maximum(images, 1)[:, None])

    def total(self, right: np.ndarray, images: np.ndarray) -> np.ndarray:
        """The sum over all units, int64 [candidates] in grid units; PRIVATE until it has noise."""
        return self.contributions(right, images).sum(0)

    def accuracies(self, noisy: np.ndarray) -> tuple[float, ...]:
        """Noisy sums, int [candidates] in grid units -> accuracies; may lie outside 0 to 1."""
        return tuple(0.5 + int(value) / (2 * HALF * self.n_units) for value in noisy)

    @property
    def noise_error(self) -> float:
        """Standard deviation of an accuracy by the noise alone."""
        return self.noise_stddev / (2 * HALF * self.n_units)

    def standard_error(self, accuracy: float) -> float:
        """Standard error of an accuracy as an estimate for other units.

        Noise and the choice of the held-out units together.

        Args:
            accuracy: In [0, 1].

        Returns:
            The standard error of the accuracy.
        """
        inside = min(max(accuracy, 0.0), 1.0)
        return math.sqrt(self.noise_error**2 + inside * (1 - inside) / self.n_units)
