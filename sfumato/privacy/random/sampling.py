"""Poisson sampling: every unit is in every step independently with probability q.

Decided by the secret run key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sfumato.privacy.random.keys import RunKey


def poisson(key: RunKey, step: int, attempt: int, n_units: int, sampling_rate: float) -> np.ndarray:
    """Draws the units of one step; any number of them, none included.

    Unit i is in when word i of stream (sample, step, attempt) is below floor(q * 2^64): one 64-bit
    word per unit, so the rate is exact to 2^-64 and never above q. The result must not be capped,
    padded, redrawn or logged (DP-SGD, arXiv 1607.00133; why shuffling is not a substitute: arXiv
    2411.04205).

    Args:
        key: The run key of the attempt.
        step: The logical step.
        attempt: The attempt.
        n_units: The public number of units.
        sampling_rate: q.

    Returns:
        Numbers of the units, int64, ascending.

    Raises:
        ValueError: q outside (0, 1] or n_units < 1.
    """
    if not 0.0 < sampling_rate <= 1.0:
        raise ValueError("sampling_rate must lie in (0, 1]: it is expected_batch_size / n_units")
    if isinstance(n_units, bool) or not isinstance(n_units, (int, np.integer)) or n_units < 1:
        raise ValueError("n_units must be an integer >= 1: it is the public number of units")
    words = key.stream("sample", step, attempt).words(int(n_units))
    threshold = int(float(sampling_rate) * 2.0**64)  # exact: scaling by a power of two, then floor
    if threshold >= 2**64:
        return np.arange(n_units, dtype=np.int64)
    return np.flatnonzero(words < np.uint64(threshold)).astype(np.int64, copy=False)
