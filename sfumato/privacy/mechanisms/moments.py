"""Class moments: what one unit adds to noisy sums of small pictures, as integers of bounded norm.

DP-FETA's class means (arXiv 2504.01395), as sums with a public divisor; and, in a second round,
the products of pairs of numbers around these means, from which pictures that vary are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np

from sfumato.privacy.mechanisms.bounded import integers_in_ball, is_positive

GRID = 1 << 20  # grid units of the bound on a unit's vector
# Its address in the key schedule: a step that nothing else has.
STEP = (1 << 40) + 3
MOST = 1 << 10  # numbers of a small picture: a second round has their square
ROUNDS = 2


@dataclass(frozen=True)
class Moments:
    """One or two noisy sums over all units before training; all of it is public.

    In the first round a unit adds its small picture in the block of its class, and beside it a
    constant, `counting` of the bound, that counts it; both together have norm `bounds[0]` at most,
    so the picture is scaled down to what the constant leaves. In the second it adds the products of
    each two numbers of its residual from the noisy class mean, which is scaled down to norm
    `bounds[1]` before they are taken. A unit of several images adds the mean of what they would
    add. `divisors` are what the blocks are divided by, where no noisy count corrects them: never a
    number of images found.

    classes: blocks; numbers: of one small picture; rounds: 1 or 2; noise_multiplier: noise sd /
    sensitivity, of each round; noise_before: training's noise multiplier without it. Both are None
    until a plan has set them. counting: from 0, which counts nobody (as before), to below 1.
    ValueError for fields that contradict each other.
    """

    classes: int
    numbers: int
    rounds: int
    bounds: tuple[float, ...]
    divisors: tuple[float, ...]
    noise_multiplier: float | None = None
    noise_before: float | None = None
    counting: float = 0.0

    def __post_init__(self):
        for name, most in (("classes", 1 << 20), ("numbers", MOST), ("rounds", ROUNDS)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"the class moments' {name} must be an integer from 1 to {most}")
        if len(self.bounds) != self.rounds or not all(map(is_positive, self.bounds)):
            raise ValueError("the class moments need one bound > 0 for each round")
        if len(self.divisors) != self.classes or not all(map(is_positive, self.divisors)):
            raise ValueError("the class moments need one public divisor > 0 for each class")
        for name in ("noise_multiplier", "noise_before"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ValueError(f"the class moments' {name} must be a finite number > 0")
        if self.counting != 0 and not (is_positive(self.counting) and self.counting < 1):
            raise ValueError("the class moments' counting must be 0, or between 0 and 1")

    @property
    def products(self) -> int:
        """Pairs of numbers, each once: the upper triangle of a symmetric matrix."""
        return self.numbers * (self.numbers + 1) // 2

    @property
    def columns(self) -> int:
        """Numbers of a block in the first round: the picture's, and the one that counts."""
        return self.numbers + (self.counting > 0)

    @property
    def picture_bound(self) -> float:
        """Norm of a small picture in the first round, at most: what the constant leaves."""
        return self.bounds[0] * math.sqrt(1 - self.counting**2)

    @property
    def released(self) -> int:
        """How many noisy numbers there are in all rounds."""
        return self.classes * (self.columns + (self.rounds - 1) * self.products)

    def unit(self, round_: int) -> float:
        """What one grid unit of a round's sum stands for."""
        return self.bounds[round_] ** (round_ + 1) / GRID

    @property
    def noise_stddev(self) -> int:
        """Standard deviation of the noise on every sum in grid units, rounded up.

        Raises:
            ValueError: There is no noise multiplier yet.
        """
        if self.noise_multiplier is None:
            raise ValueError("the class moments have no noise yet: make the plan first")
        return math.ceil(Fraction(self.noise_multiplier) * GRID)

    def rows_of(self, round_: int, pictures: np.ndarray) -> np.ndarray:
        """What images would add on their own, before the unit's bound: norm <= 1 or so.

        Args:
            round_: 0: pictures; 1: products of pairs, those of two different numbers times the
                root of 2, so that the norm is the square of the picture's.
            pictures: Float [n, numbers], small pictures or residuals. One that is not finite adds
                zeros.

        Returns:
            float64 [n, columns] or [n, products].

        Raises:
            ValueError: Another number of columns.
        """
        v = np.array(pictures, np.float64)
        if v.ndim != 2 or v.shape[1] != self.numbers:
            raise ValueError("a small picture has `numbers` numbers")
        broken = ~np.isfinite(v).all(1)
        v[broken] = 0.0
        largest = np.abs(v).max(1, initial=0.0, keepdims=True)
        v /= np.where(largest > 0, largest, 1.0)  # so that no square overflows
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        most = 1.0 / np.where(norm > 0, norm, 1.0)
        if round_ == 0:
            share = math.sqrt(1 - self.counting**2)
            v *= np.minimum(most * share, largest / self.bounds[0])
            counted = np.full((len(v), self.columns - self.numbers), self.counting)
            counted[broken] = 0.0
            return np.concatenate([v, counted], 1)
        v *= np.minimum(most, largest / self.bounds[1])
        i, j = np.triu_indices(self.numbers)
        return v[:, i] * v[:, j] * np.where(i == j, 1.0, math.sqrt(2.0))

    def unit_rows(self, vectors: np.ndarray) -> np.ndarray:
        """What each unit adds: rows in grid units, each row's L2 norm <= GRID exactly.

        Rows are rounded towards zero, which never raises a norm, and checked in integers, so no
        rounding of floating point can carry a unit over the bound. A row that is not finite adds
        zeros.

        Args:
            vectors: Float [U, any], each unit's numbers in all blocks, in units of the bound.

        Returns:
            int64 of the same shape.
        """
        v = np.array(vectors, np.float64)
        v[~np.isfinite(v).all(1)] = 0.0
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        v *= GRID / np.maximum(norm, 1.0)
        return integers_in_ball(v, GRID)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field."""
        lists = {"bounds": list(self.bounds), "divisors": list(self.divisors)}
        body = {**asdict(self), **lists}
        if not self.counting:  # as plans were before there was a count
            del body["counting"]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Moments:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        known = {field.name for field in fields(cls)}
        if not isinstance(body, Mapping) or {*body, "counting"} != known:
            raise ValueError("these are no class moments of this version: make the plan again")
        lists: dict[str, Any] = {name: body[name] for name in ("bounds", "divisors")}
        if not all(isinstance(value, (list, tuple)) for value in lists.values()):
            raise ValueError("the class moments' bounds and divisors must be lists")
        own: dict[str, Any] = {**body, **{name: tuple(value) for name, value in lists.items()}}
        return cls(**own)
