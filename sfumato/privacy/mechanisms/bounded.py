"""What several mechanisms need: rows of integers in a ball, and fields that are numbers > 0."""

from __future__ import annotations

import math

import numpy as np


def integers_in_ball(rows: np.ndarray, radius: int) -> np.ndarray:
    """Rows rounded towards zero, each row's L2 norm <= radius exactly.

    Rounding towards zero never raises a norm, and norms are checked in integers, so no rounding of
    floating point can carry a row that was scaled to the radius over it.

    Args:
        rows: float64 [n, d] of norm radius, or about, at most; changed in place.
        radius: In the same units.

    Returns:
        int64 [n, d].
    """
    while True:
        whole = np.trunc(rows).astype(np.int64)
        over = (whole * whole).sum(1) > radius * radius
        if not over.any():
            return whole
        rows[over] *= 1 - 2.0**-40


def is_positive(value: object) -> bool:
    """Whether it is a finite number > 0, and no bool."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )
