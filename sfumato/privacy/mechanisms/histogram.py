"""The vote histogram: one unit's votes for public candidates, as integers of bounded norm.

Private Evolution (arXiv 2305.15560), with a bound that holds for the numbers as they are computed
and for units of several images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np

GRID = 1 << 16  # grid units of the bound on a unit's votes
MOST = 1 << 14  # votes of one unit for one candidate that count: their square fits in 64 bits
NAME = "votes"  # of the noise, with the round as its step


@dataclass(frozen=True)
class VoteHistogram:
    """Noisy histograms of votes, one a round, each over a public table of candidates.

    All of it is public. In a round every image of a unit names `votes` candidates of its own class,
    the nearest in `features`; the unit's counts over all candidates are scaled to L2 norm 1
    together, so that a unit weighs the same however many images it owns. What a round's table holds
    follows from the rounds before it (adaptive composition).

    candidates: rows of the table in a round, equally many for each class; classes: how many;
    votes: candidates that one image names; features: name of the public feature space.
    ValueError for fields that contradict each other.
    """

    candidates: int
    classes: int
    votes: int
    features: str

    def __post_init__(self):
        for name in ("candidates", "classes", "votes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the vote histogram's {name} must be an integer >= 1")
        if self.candidates % self.classes:
            raise ValueError("the vote histogram has equally many candidates for each class")
        if not self.votes < self.of_class:
            raise ValueError(
                f"an image votes for fewer candidates than its class has ({self.of_class}): give"
                " more candidates, or fewer votes"
            )
        if not isinstance(self.features, str) or not self.features:
            raise ValueError("the vote histogram names its public feature space")

    @property
    def of_class(self) -> int:
        """Candidates of one class in a round."""
        return self.candidates // self.classes

    def noise_stddev(self, noise_multiplier: float) -> int:
        """Standard deviation of the noise on each candidate's sum in grid units, rounded up."""
        return math.ceil(Fraction(noise_multiplier) * GRID)

    def unit_rows(self, counts: np.ndarray) -> np.ndarray:
        """What each unit adds: rows in grid units, each row's L2 norm <= GRID exactly.

        The squares of the shares are divided in integers and their roots rounded towards zero, so
        no rounding can carry a unit over the bound. A unit without votes adds zeros.

        Args:
            counts: int [U, k], each unit's votes for candidates, in any columns: one column must
                hold all its votes for one candidate.

        Returns:
            int64 [U, k].

        Raises:
            ValueError: Negative or non-integer counts.
        """
        exact = np.asarray(counts)
        if exact.ndim != 2 or exact.dtype.kind not in "iu" or (exact.size and exact.min() < 0):
            raise ValueError("votes are counted: non-negative integers, one row for each unit")
        exact = np.minimum(exact, MOST).astype(np.int64)
        squares = exact * exact
        total = np.maximum(squares.sum(1, keepdims=True), 1)
        # floor(GRID c / sqrt(total)) = isqrt(GRID^2 c^2 // total), all below 2^61
        shares = GRID * GRID * squares // total
        rows = np.sqrt(shares.astype(np.float64)).astype(np.int64)
        rows -= rows * rows > shares  # the root of a float may be one too large
        return rows

    def total(self, named: np.ndarray, owned: Sequence[np.ndarray]) -> np.ndarray:
        """The sum of the units' bounded votes, int64 [candidates] in grid units.

        Not yet noisy, so PRIVATE. Integers add exactly.

        Args:
            named: int [n, votes], the candidates that each of n images names; a row with a number
                below 0 or beyond the table counts for nothing.
            owned: The images of each unit, each image in one unit.

        Returns:
            The sum.

        Raises:
            ValueError: Another number of votes.
        """
        said = np.asarray(named)
        if said.ndim != 2 or said.shape[1] != self.votes or said.dtype.kind not in "iu":
            raise ValueError("an image names `votes` candidates by their numbers")
        sound = np.all((said >= 0) & (said < self.candidates), axis=1)
        out = np.zeros(self.candidates, np.int64)
        for images in owned:
            cast = said[images][sound[images]].reshape(-1)
            if cast.size:
                where, count = np.unique(cast, return_counts=True)
                out[where] += self.unit_rows(count[None])[0]
        return out

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> VoteHistogram:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        if not isinstance(body, Mapping) or set(body) != {field.name for field in fields(cls)}:
            raise ValueError("this is not a vote histogram of this version: make the plan again")
        return cls(**body)
