"""Noise on sums: discrete Gaussian integers, added to integers on a public grid.

For training and one-shot queries alike. No floating-point number takes part, so the low bits of
none leak anything. What is released costs what a continuous Gaussian mechanism does: the variance
of the integers is that of the billed Gaussian plus 4, and the accountant adds a share for the ratio
between the two laws. docs/privacy.md has the proof, in any dimension and under Poisson sampling;
sfumato/privacy/random/gaussian.py draws the integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from sfumato.privacy.random.gaussian import LARGEST, SMOOTHING
from sfumato.privacy.random.integers import integers
from sfumato.privacy.random.on_device import drawn_there

if TYPE_CHECKING:
    from sfumato.privacy.random.keys import RunKey

GRID = 1024  # grid units per record in noisy_histogram
_FINE = 40  # add_noise: the grid's step is at most 2^-40 standard deviations


def add_integer_noise(
    sums: Mapping[str, torch.Tensor],
    key: RunKey,
    step: int,
    attempt: int,
    *,
    multiplier: float,
    bound: int,
    starts: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Adds discrete Gaussian noise to every coordinate of integer sums; once per logical step.

    The variance is (multiplier * bound)^2 + 4, or above it by less than 1 part in 2^60
    (`variance_of`). Number i of a tensor is made of the i-th words of the stream (noise, step,
    attempt, its name), so neither order, chunks, shards nor ranks change it. Billed as
    Gaussian(multiplier), or Poisson-sampled. Nothing here looks at the sums, so nothing can stop
    because of them: the addition is modulo 2^64, which is post-processing (the plan keeps the sums
    and 40 sd below 2^63).

    Args:
        sums: Tensors int64, in grid units.
        key: The run key of the attempt.
        step: The logical step.
        attempt: The attempt.
        multiplier: Noise sd / sensitivity, as the plan's event has it.
        bound: The L2 norm in grid units by which one unit can move all sums together.
        starts: Of a tensor that is a part of the one with its name: the number of its first number
            there. A part gets the noise that its numbers have in the whole.

    Returns:
        int64 tensors of the same names, shapes and devices.

    Raises:
        ValueError: Tensors that are not int64, an empty mapping, or noise that int64 does not hold.
    """
    if any(value.dtype != torch.int64 for value in sums.values()):
        raise ValueError("noise is added to integer sums only: round them to the plan's grid first")
    return _add(sums, key, step, attempt, variance_of(multiplier, bound), starts)


def add_noise(
    sum: Mapping[str, torch.Tensor], key: RunKey, step: int, attempt: int, stddev: float
) -> dict[str, torch.Tensor]:
    """Adds noise of sd `stddev` to float sums, rounded to a public grid; once per step.

    The grid's step is a power of two, above stddev 2^-41 and at most stddev 2^-40, and the noise is
    drawn on that grid. Numbers are rounded to the nearest step, cut off at 2^61 steps, and one that
    is no number counts as 0: each a function of that number alone. Between neighbours this adds at
    most sqrt(P) steps to the L2 distance of P numbers, so that the sensitivity to bill is C +
    sqrt(P) stddev 2^-40; the error of the float sum itself is the caller's to bound. Training adds
    integers instead (`add_integer_noise`).

    Args:
        sum: Float tensors.
        key: The run key of the attempt.
        step: The logical step.
        attempt: The attempt.
        stddev: Standard deviation of the noise, in units of the sums.

    Returns:
        float32 tensors of the same names, shapes and devices.

    Raises:
        ValueError: A stddev that is not finite and > 0, or an empty mapping.
    """
    if not math.isfinite(stddev) or not 1e-280 < stddev < 1e280:
        raise ValueError("the noise needs a finite standard deviation > 0: take it from the plan")
    grid = 2.0 ** (math.frexp(stddev)[1] - 1 - _FINE)
    whole: dict[str, torch.Tensor] = {}
    for name, value in sum.items():
        steps = (
            (value.detach().to(torch.float64) * (1 / grid))
            .nan_to_num(0.0)
            .clamp(-(2.0**61), 2.0**61)
        )
        whole[name] = steps.round().to(torch.int64)
    noisy = _add(whole, key, step, attempt, variance_of(1.0, Fraction(stddev) / Fraction(grid)))
    return {
        name: (value.to(torch.float64) * grid).to(torch.float32) for name, value in noisy.items()
    }


def noisy_histogram(
    counts: Sequence[int] | np.ndarray,
    noise_multiplier: float,
    key: RunKey,
    *,
    max_per_unit: int = 1,
    step: int = 0,
    attempt: int = 0,
) -> np.ndarray:
    """Adds discrete Gaussian noise of sd noise_multiplier * max_per_unit records to class counts.

    Counts are integers in steps of 1/1024 record, and only integers / 1024 come out (exact in
    float64). Sensitivity under zero-out is 1 record, since a record falls in one class; a unit of m
    records moves the counts by at most m in L2, hence the scale. Billed as
    Gaussian(noise_multiplier).

    Args:
        counts: Records of each class.
        noise_multiplier: Noise sd / sensitivity.
        key: The run key. Call once per (key, step, attempt): the same address gives the same noise.
        max_per_unit: The most records that one unit owns.
        step: Part of the noise's address.
        attempt: Part of the noise's address.

    Returns:
        float64 [classes], in records; may be negative.

    Raises:
        ValueError: Negative or non-integer counts, or parameters out of range.
    """
    if not math.isfinite(noise_multiplier) or noise_multiplier <= 0:
        raise ValueError("histogram noise_multiplier must be a finite number > 0: try 25")
    if (
        isinstance(max_per_unit, bool)
        or not isinstance(max_per_unit, (int, np.integer))
        or max_per_unit < 1
    ):
        raise ValueError("max_per_unit must be an integer >= 1: the most records one unit owns")
    exact = np.asarray(counts)
    if exact.ndim != 1 or exact.dtype.kind not in "iu" or (exact.size and int(exact.min()) < 0):
        raise ValueError("a histogram needs non-negative integer counts, one per class")
    variance = variance_of(noise_multiplier, int(max_per_unit) * GRID)
    return (
        exact.astype(np.int64) * GRID
        + integers(variance, exact.size, key, "histogram", step, attempt, "")
    ) / GRID


def noisy_scores(
    totals: Sequence[int] | np.ndarray, stddev: int, key: RunKey, *, step: int, attempt: int
) -> np.ndarray:
    """Adds discrete Gaussian noise to summed integer scores.

    Billed as Gaussian(stddev / sensitivity), or Poisson-sampled. Call once per address.

    Args:
        totals: Integer scores [M], in grid units.
        stddev: The billed standard deviation, an integer >= 1, in grid units.
        key: The run key.
        step: Part of the noise's address.
        attempt: Part of the noise's address.

    Returns:
        int64 [M], in grid units.
    """
    return _noisy(totals, stddev, key, "select", step, attempt, "scores")


def noisy_vector(
    totals: Sequence[int] | np.ndarray,
    stddev: int,
    key: RunKey,
    *,
    step: int,
    attempt: int,
    name: str,
) -> np.ndarray:
    """Adds discrete Gaussian noise to summed integer vectors.

    Billed as Gaussian(stddev / L2 sensitivity), or Poisson-sampled. Call once per address. Raises
    ValueError for totals that are not integers or an sd that is not.

    Args:
        totals: Integers [D], in grid units.
        stddev: The billed standard deviation, an integer >= 1, in grid units.
        key: The run key.
        step: Part of the noise's address.
        attempt: Part of the noise's address.
        name: Part of the noise's address.

    Returns:
        int64 [D], in grid units.
    """
    return _noisy(totals, stddev, key, "aggregate", step, attempt, name)


def variance_of(multiplier: float | Fraction, bound: int | Fraction) -> Fraction:
    """The variance of integer noise billed as Gaussian(multiplier), exactly.

    (multiplier * bound)^2 + 4. The 4 pays for discreteness: the integers' law is, in ratio, that of
    the continuous Gaussian mechanism of sd multiplier * bound followed by a rounding of each number
    to a random integer, discrete Gaussian of variance 4 around it (docs/privacy.md).

    Args:
        multiplier: Noise sd / sensitivity.
        bound: The sensitivity in grid units.

    Returns:
        The variance, in squared grid units.

    Raises:
        ValueError: multiplier is not finite and > 0, bound < 1, or the standard deviation is 2^50
            or more.
    """
    if isinstance(multiplier, bool) or not math.isfinite(multiplier) or multiplier <= 0:
        raise ValueError("the noise needs a finite multiplier > 0: take it from the plan")
    if isinstance(bound, bool) or not isinstance(bound, (int, Fraction)) or bound < 1:
        raise ValueError(
            "the noise needs the bound on a unit in grid units, at least 1: take it from the plan"
        )
    variance = (Fraction(multiplier) * bound) ** 2 + SMOOTHING
    if variance > LARGEST:
        raise ValueError(
            "the noise does not fit in 64-bit integers: take a coarser grid or less noise"
        )
    return variance


def _add(
    sums: Mapping[str, torch.Tensor],
    key: RunKey,
    step: int,
    attempt: int,
    variance: Fraction,
    starts: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Noise of this variance on int64 tensors, each from the stream of its name."""
    places = {name: (value.shape, value.device) for name, value in sums.items()}
    noise = drawn_there(variance, places, key, "noise", step, attempt, starts or {})
    return {name: noise[name].add_(value.detach()) for name, value in sums.items()}


def _noisy(
    totals: Sequence[int] | np.ndarray,
    stddev: int,
    key: RunKey,
    purpose: str,
    step: int,
    attempt: int,
    name: str,
) -> np.ndarray:
    exact = np.asarray(totals)
    if exact.ndim != 1 or exact.dtype.kind not in "iu":
        raise ValueError("noise is added to a list of integers: one total per group or coordinate")
    if isinstance(stddev, bool) or not isinstance(stddev, int) or stddev < 1:
        raise ValueError("this noise needs an integer standard deviation >= 1 in grid units")
    return exact.astype(np.int64) + integers(
        variance_of(1.0, stddev), exact.size, key, purpose, step, attempt, name
    )
