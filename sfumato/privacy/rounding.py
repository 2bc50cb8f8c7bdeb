"""The public grid on which clipped sums are added up.

What leaves a training step is therefore a function of integers (arXiv 2207.10635).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

# rho of every plan: measured with benchmarks/sensitivity.py and benchmarks/integer_sums.py. It
# costs 0.8 % more noise.
SLACK = 2.0**-7


@dataclass(frozen=True)
class Rounding:
    """One grid unit is `step`; all units' contributions, and the noise, are whole numbers of it.

    All of it is public.

    slack: rho; one unit moves the computed sum by at most C (1 + rho), C the clip's sensitivity.
    step: the largest power of two below rho C / (4 sqrt(P)), P the trainable numbers (the root
    rounded up), so that rounding every number once moves the sum by less than rho C / 4. bound:
    ceil(C (1 + rho) / step), the sensitivity as a whole number of grid units; the noise's standard
    deviation is counted in it. ValueError unless 0 < slack <= 0.01, step is a power of two and
    bound a whole number.
    """

    slack: float
    step: float
    bound: int

    def __post_init__(self):
        if not _positive(self.slack) or self.slack > 0.01:
            raise ValueError("the rounding's slack must lie in (0, 0.01]: make the plan again")
        if not _positive(self.step) or math.frexp(self.step)[0] != 0.5:
            raise ValueError("the rounding's step must be a power of two: make the plan again")
        if isinstance(self.bound, bool) or not isinstance(self.bound, int) or self.bound < 1:
            raise ValueError("the rounding's bound must be an integer >= 1: make the plan again")

    @classmethod
    def of(cls, sensitivity: float, trainable: int, slack: float = SLACK) -> Rounding:
        """The rounding for a clip over `trainable` numbers; it does not depend on the noise.

        Args:
            sensitivity: C, of all groups together.
            trainable: P, the trainable numbers.
            slack: rho.

        Returns:
            The rounding.

        Raises:
            ValueError: C is so small or large that float64 has no room for the grid.
        """
        below = (
            Fraction(slack) * Fraction(sensitivity) / (4 * (math.isqrt(max(trainable, 1) - 1) + 1))
        )
        exponent = math.frexp(float(below))[1] + 1
        while Fraction(2) ** exponent >= below:
            exponent -= 1
        if not -400 < exponent < 400:
            raise ValueError("the clip norm is too small or too large for a grid: take one near 1")
        step = 2.0**exponent
        return cls(
            slack, step, math.ceil(Fraction(sensitivity) * (1 + Fraction(slack)) / Fraction(step))
        )

    @property
    def sensitivity(self) -> float:
        """The bound in units of the gradient sum: C (1 + rho), rounded up to a whole grid unit."""
        return self.bound * self.step

    def check(
        self, sensitivity: float, trainable: int, n_units: int, noise_multiplier: float
    ) -> None:
        """Checks that this is the rounding of a plan with these fields.

        Args:
            sensitivity: C, of all groups together.
            trainable: P, the trainable numbers.
            n_units: The public number of units.
            noise_multiplier: Noise sd / sensitivity.

        Raises:
            ValueError: It is not, or a sum with its noise may come near 64 bits.
        """
        if self != Rounding.of(sensitivity, trainable, self.slack):
            raise ValueError(
                "the rounding does not follow from the plan's fields: make the plan again"
            )
        if Fraction(n_units) * self.bound + 40 * Fraction(noise_multiplier) * self.bound >= 2**62:
            raise ValueError(
                "the sum and its noise would not fit into 64 bits: train fewer numbers, or lower"
                " n_units, or ask for less noise"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Rounding:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        if not isinstance(body, Mapping) or set(body) != {field.name for field in fields(cls)}:
            raise ValueError("this is not a rounding of this version: make the plan again")
        return cls(**body)


def _positive(value: object) -> bool:
    return (
        not isinstance(value, bool)
        and isinstance(value, (int, float))
        and math.isfinite(value)
        and value > 0
    )
