"""Aggregation: what one unit adds to a noisy mean of embeddings, as integers of bounded norm.

DPAgg-TI (arXiv 2411.14639), with a bound that holds for the numbers as they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np

from sfumato.privacy.mechanisms.bounded import integers_in_ball, is_positive

RULES = ("clip", "unit")
SUBSPACES = ("none", "vocabulary", "public")
GRID = 1 << 20  # grid units of the bound on a unit's vector
# Its address in the key schedule: a step that neither training nor a probe has.
STEP = (1 << 40) + 1


@dataclass(frozen=True)
class Aggregation:
    """One noisy sum over all units of vectors with a block for each class. All of it is public.

    rule: "clip" (a unit's vector of residuals from the public anchor is scaled down to the plan's
    clip norm C) or "unit" (its embedding itself is scaled to norm 1: the paper's). blocks: classes;
    dimensions: numbers of a block; subspace: where their axes come from; vectors: token vectors per
    class; shrink: whether known noise is taken off afterwards; divisors: what each block is divided
    by, public. ValueError for fields that contradict each other.
    """

    rule: str
    blocks: int
    dimensions: int
    vectors: int
    subspace: str
    shrink: bool
    divisors: tuple[float, ...]

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f"unknown rule of aggregation: use one of {', '.join(RULES)}")
        if self.subspace not in SUBSPACES or (self.rule == "unit" and self.subspace != "none"):
            raise ValueError(
                "the subspace is none, vocabulary or public; unit vectors are taken in the whole"
                " space"
            )
        for name in ("blocks", "dimensions", "vectors"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"the aggregation's {name} must be an integer >= 1")
        if not isinstance(self.shrink, bool):
            raise ValueError("shrink is true or false")
        if len(self.divisors) != self.blocks or not all(is_positive(d) for d in self.divisors):
            raise ValueError("the aggregation needs one public divisor > 0 for each block")

    @property
    def numbers(self) -> int:
        """How many numbers are released: blocks * dimensions."""
        return self.blocks * self.dimensions

    def noise_stddev(self, noise_multiplier: float) -> int:
        """Standard deviation of the noise on the sum in grid units, rounded up."""
        return math.ceil(noise_multiplier * GRID)

    def unit_rows(self, vectors: np.ndarray, clip_norm: float) -> np.ndarray:
        """What each unit adds: rows in grid units, each row's L2 norm <= GRID exactly.

        One grid unit is clip_norm / GRID. Rows are rounded towards zero, which never raises a norm,
        and then checked in integers, so no rounding of floating point can carry a unit over the
        bound. A row that is not finite adds zero.

        Args:
            vectors: Float [U, numbers] of U units, one block of `dimensions` numbers per class.
            clip_norm: The L2 norm to which a unit's vector is clipped.

        Returns:
            int64 [U, numbers].

        Raises:
            ValueError: Another number of columns.
        """
        v = np.array(vectors, np.float64)
        if v.ndim != 2 or v.shape[1] != self.numbers:
            raise ValueError("a unit's vector has one block of `dimensions` numbers for each class")
        v[~np.isfinite(v).all(1)] = 0.0
        largest = np.abs(v).max(1, initial=0.0, keepdims=True)
        v = v / np.where(largest > 0, largest, 1.0)  # so that no square overflows
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        wanted = GRID / np.where(norm > 0, norm, 1.0)
        if self.rule == "clip":
            # A clip norm near the least number that there is must not make 0 * infinity, which no
            # integer stands for.
            most = min(GRID / clip_norm, np.finfo(np.float64).max)
            with np.errstate(over="ignore"):
                wanted = np.minimum(wanted, largest * most)
        v *= wanted
        return integers_in_ball(v, GRID)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry per field."""
        return {**asdict(self), "divisors": list(self.divisors)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Aggregation:
        """The inverse of `to_json`; ValueError for missing, unknown or contradictory fields."""
        if not isinstance(body, Mapping) or set(body) != {field.name for field in fields(cls)}:
            raise ValueError("this is not an aggregation of this version: make the plan again")
        divisors: Any = body["divisors"]
        if not isinstance(divisors, (list, tuple)):
            raise ValueError("the aggregation's divisors must be a list")
        own: dict[str, Any] = {**body, "divisors": tuple(cast(Sequence[float], divisors))}
        return cls(**own)
