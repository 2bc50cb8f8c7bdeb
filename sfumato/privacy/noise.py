"""Noise: Gaussian for the clipped sums of training, exact integer noise on a grid for one-shot queries.

Training noise is float64 normals of the run key, cast to float32 and added in float32: a real-arithmetic guarantee. One-shot
queries are released in grid mode (integers only), where floating point plays no part: counts and scores with discrete Gaussian
noise, sums of vectors with rounded Gaussian noise, whose price is that of the continuous one without any approximation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from sfumato.privacy.gaussian import SMOOTHING, DiscreteGaussian, discrete_gaussian

if TYPE_CHECKING:
    from sfumato.privacy.keys import RunKey, Stream

GRID = 1024  # grid units per record in noisy_histogram
_CHUNK = 1 << 20  # even, so that chunked normals equal one long draw
_PART = 1 << 14  # integers drawn at a time; stays in cache


def add_noise(
    sum: Mapping[str, torch.Tensor], key: RunKey, step: int, attempt: int, stddev: float
) -> dict[str, torch.Tensor]:
    """Clipped sum + N(0, stddev^2) in every coordinate, float32, same shapes and devices; once per logical step.

    stddev: noise_multiplier * sensitivity, in units of the gradient sum. The noise of a tensor is the stream (noise, step,
    attempt, its name), so neither the order of tensors nor the number of ranks changes it. Raises ValueError for a stddev that is
    not finite and > 0 or an empty mapping.
    """
    if not math.isfinite(stddev) or stddev <= 0:
        raise ValueError("the noise needs a finite standard deviation > 0: take it from the plan")
    if not sum:
        raise ValueError("there is no tensor to add noise to: choose at least one trainable tensor")
    noisy = {}
    for name, value in sum.items():
        stream, size = key.stream("noise", step, attempt, name), value.numel()
        noise = np.empty(size, dtype=np.float32)
        for start in range(0, size, _CHUNK):
            count = min(_CHUNK, size - start)
            noise[start : start + count] = stream.normal(count) * stddev
        noisy[name] = value.detach().to(torch.float32) + torch.from_numpy(noise).reshape(value.shape).to(value.device)
    return noisy


def add_integer_noise(
    sums: Mapping[str, torch.Tensor], key: RunKey, step: int, attempt: int, *, multiplier: float, bound: int
) -> dict[str, torch.Tensor]:
    """Integer sums + independent discrete Gaussian noise in every coordinate, int64, same shapes and devices; once per logical step.

    sums: int64, in grid units; bound: the L2 norm in grid units by which one unit can move all of them together; multiplier: noise
    sd / sensitivity, as the plan's event has it. The variance is at least (multiplier * bound)^2 + 4, computed with fractions: what
    the continuous Gaussian has, and what smooths it (`integer_noise_variance`). Number i of a tensor is made of the i-th words of
    the stream (noise, step, attempt, its name), so neither order, chunks, shards nor ranks change it. Billed as
    Gaussian(multiplier) and the accountant's share for discreteness. Nothing here looks at the sums, so nothing can stop because of
    them: the addition is modulo 2^64, which is post-processing (the plan keeps sums and 40 sd below 2^63). Raises ValueError for tensors
    that are not int64, an empty mapping, or noise that int64 does not hold.
    """
    if not sums:
        raise ValueError("there is no tensor to add noise to: choose at least one trainable tensor")
    if any(value.dtype != torch.int64 for value in sums.values()):
        raise ValueError("noise is added to integer sums only: round them to the plan's grid first")
    sampler = discrete_gaussian(integer_noise_variance(multiplier, bound))
    return {name: value + _integers(sampler, key, step, attempt, name, value) for name, value in sums.items()}


def integer_noise_variance(multiplier: float, bound: int) -> Fraction:
    """(multiplier * bound)^2 + 4, exactly: the variance of the integer noise in squared grid units.

    Its law is within a pointwise ratio of 1 +- 2^-108 of this: the continuous Gaussian mechanism of sd multiplier * bound, then a
    randomised rounding of its output to an integer by a discrete Gaussian of variance 4 around it (docs/privacy.md). Raises ValueError
    unless multiplier is finite and > 0, bound an integer >= 1, and 40 standard deviations are below 2^62.
    """
    if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float)) or not math.isfinite(multiplier):
        raise ValueError("the noise needs a finite multiplier > 0: take it from the plan")
    if isinstance(bound, bool) or not isinstance(bound, int) or bound < 1 or multiplier <= 0:
        raise ValueError(
            "the noise needs a multiplier > 0 and a bound that is an integer >= 1: take both from the plan"
        )
    variance = (Fraction(multiplier) * bound) ** 2 + SMOOTHING
    if 40**2 * variance >= 1 << 124:
        raise ValueError("the noise does not fit in 64-bit integers: take a coarser grid or less noise")
    return variance


def _integers(
    sampler: DiscreteGaussian, key: RunKey, step: int, attempt: int, name: str, like: torch.Tensor
) -> torch.Tensor:
    """The noise of one tensor, int64, of its shape and on its device."""

    def more(offset: int, term: int) -> Iterator[int]:
        stream = key.stream("ties", step, attempt, f"{name}/{offset}/{term}")
        while True:
            yield from stream.words(1).tolist()

    stream, size = key.stream("noise", step, attempt, name), like.numel()
    drawn = np.empty(size, dtype=np.int64)
    for start in range(0, size, _PART):
        count = min(_PART, size - start)
        words = stream.words(count * sampler.terms).reshape(count, sampler.terms)
        drawn[start : start + count] = sampler.draw(words, lambda i, j, at=start: more(at + i, j))
    return torch.from_numpy(drawn).reshape(like.shape).to(like.device)


def noisy_histogram(
    counts: Sequence[int],
    noise_multiplier: float,
    key: RunKey,
    *,
    max_per_unit: int = 1,
    step: int = 0,
    attempt: int = 0,
) -> np.ndarray:
    """Class counts + discrete Gaussian noise of sd noise_multiplier * max_per_unit records, float64 [classes], may be negative.

    Grid mode: counts are exact integers in steps of 1/1024 record, the noise is an integer drawn exactly (Canonne, Kamath,
    Steinke, arXiv 2004.00010: rejection from a discrete Laplace with Bernoulli(exp(-rational)) coins made of 64-bit ChaCha words),
    its sd is rounded up to whole grid units, and only integers / 1024 come out (exact in float64). Sensitivity under zero-out is 1
    record, since a record falls in one class; a unit of m records moves the counts by at most m in L2, hence the scale. Billed as
    Gaussian(noise_multiplier). For one record per unit the mechanism is one-dimensional, where the discrete Gaussian at 1024 units
    costs what the continuous one does; for larger units the vector form is billed as continuous, which is usual but unproven here.
    Call once per (key, step, attempt): the same address gives the same noise. Raises ValueError for negative or non-integer counts.
    """
    if not math.isfinite(noise_multiplier) or noise_multiplier <= 0:
        raise ValueError("histogram noise_multiplier must be a finite number > 0: try 25")
    if isinstance(max_per_unit, bool) or not isinstance(max_per_unit, (int, np.integer)) or max_per_unit < 1:
        raise ValueError("max_per_unit must be an integer >= 1: the most records one unit owns")
    exact = np.asarray(counts)
    if exact.ndim != 1 or exact.dtype.kind not in "iu" or (exact.size and int(exact.min()) < 0):
        raise ValueError("a histogram needs non-negative integer counts, one per class")
    sigma = math.ceil(noise_multiplier * int(max_per_unit) * GRID)
    coins = _Coins(key.stream("histogram", step, attempt))
    return np.array([(int(count) * GRID + coins.discrete_gaussian(sigma)) / GRID for count in exact], dtype=np.float64)


def noisy_scores(totals: Sequence[int], stddev: int, key: RunKey, *, step: int, attempt: int) -> np.ndarray:
    """Summed integer scores + discrete Gaussian noise of integer sd `stddev` >= 1 (all in grid units), int64 [M].

    Grid mode as in `noisy_histogram`: integers in, exact integer noise, integers out. Billed as Gaussian(stddev / sensitivity): the
    vector of discrete Gaussians has the zCDP of the continuous one (arXiv 2004.00010, theorem 14), and with a sensitivity of
    at least 1024 grid units the two are billed alike, which is usual but not proven here for PLD. Call once per address.
    """
    exact = np.asarray(totals)
    if exact.ndim != 1 or exact.dtype.kind not in "iu":
        raise ValueError("noisy scores need integer totals, one per group")
    if isinstance(stddev, bool) or not isinstance(stddev, int) or stddev < 1:
        raise ValueError("the noise on scores needs an integer standard deviation >= 1 in grid units")
    coins = _Coins(key.stream("select", step, attempt, "scores"))
    return np.array([int(total) + coins.discrete_gaussian(stddev) for total in exact], dtype=np.int64)


def noisy_vector(totals: Sequence[int], stddev: int, key: RunKey, *, step: int, attempt: int, name: str) -> np.ndarray:
    """Summed integer vectors + rounded Gaussian noise of integer sd `stddev` >= 1 (all in grid units), int64 [D].

    Each coordinate of the noise is sd * Z rounded to the nearest integer, Z a standard normal drawn exactly. Rounding commutes
    with adding integers, so the result is round(totals + sd * Z): post-processing of the continuous Gaussian mechanism on the
    vector of totals. It is therefore billed as Gaussian(sd / L2 sensitivity) exactly, in any dimension and on any grid.
    Call once per address. Raises ValueError for totals that are not integers or an sd that is not.
    """
    exact = np.asarray(totals)
    if exact.ndim != 1 or exact.dtype.kind not in "iu":
        raise ValueError("a noisy vector needs integer totals, one per coordinate")
    if isinstance(stddev, bool) or not isinstance(stddev, int) or stddev < 1:
        raise ValueError("the noise on a vector needs an integer standard deviation >= 1 in grid units")
    coins = _Coins(key.stream("aggregate", step, attempt, name))
    return np.array([int(total) + coins.rounded_gaussian(stddev) for total in exact], dtype=np.int64)


class _Coins:
    """Exact samplers over integers from a stream of 64-bit words."""

    def __init__(self, stream: Stream):
        self._stream, self._words = stream, iter(())

    def _word(self) -> int:
        for word in self._words:
            return word
        self._words = iter(self._stream.words(512).tolist())
        return next(self._words)

    def below(self, bound: int) -> int:
        """Uniform in 0..bound-1, by rejection of the uneven tail."""
        bits = (bound - 1).bit_length()
        while True:
            value = 0
            for _ in range(-(-bits // 64)):
                value = value << 64 | self._word()
            value &= (1 << bits) - 1
            if value < bound:
                return value

    def exp_minus(self, top: int, bottom: int) -> bool:
        """True with probability exp(-top / bottom)."""
        while top > bottom:
            if not self.exp_minus(bottom, bottom):
                return False
            top -= bottom
        k = 1
        while self.below(bottom * k) < top:
            k += 1
        return k % 2 == 1

    def discrete_laplace(self, scale: int) -> int:
        """Probability proportional to exp(-|x| / scale), integer scale >= 1."""
        while True:
            low = self.below(scale)
            if not self.exp_minus(low, scale):
                continue
            high = 0
            while self.exp_minus(1, 1):
                high += 1
            value, negative = low + scale * high, self.below(2)
            if negative and value == 0:
                continue  # zero has one sign only
            return -value if negative else value

    def discrete_gaussian(self, sigma: int) -> int:
        """Probability proportional to exp(-x^2 / (2 sigma^2)), integer sigma >= 1."""
        while True:
            value = self.discrete_laplace(sigma)
            if self.exp_minus((abs(value) - sigma) ** 2, 2 * sigma * sigma):
                return value

    def rounded_gaussian(self, sigma: int) -> int:
        """sigma * Z to the nearest integer, Z standard normal, exactly (Karney, arXiv 1303.6257, algorithm N).

        Z = +-(k + x): k has probability proportional to exp(-k^2 / 2), and x in (0, 1) is a binary fraction whose digits are
        drawn as far as a comparison asks for them, 64 at a time.
        """
        while True:
            k = 0
            while self.exp_minus(1, 2):
                k += 1
            if not all(self.exp_minus(1, 2) for _ in range(k * (k - 1))):
                continue
            x = _Fraction(self)
            # exp(-x (2 k + x) / 2) in k + 1 equal parts, so that each exponent stays below 1
            if all(self._exp_minus_part(x, k) for _ in range(k + 1)):
                break
        while True:
            one = 1 << x.bits
            low, high = sigma * (k * one + x.digits), sigma * (k * one + x.digits + 1)
            least, most = (2 * low + one) // (2 * one), -((2 * high + one) // (-2 * one)) - 1
            if least == most:
                return -least if self.below(2) else least
            x.extend()

    def _exp_minus_part(self, x: _Fraction, k: int) -> bool:
        """True with probability exp(-p), p = x (2 k + x) / (2 k + 2) < 1 (von Neumann's alternating series)."""
        n = 1
        while self._below_part(x, k, n):
            n += 1
        return n % 2 == 1

    def _below_part(self, x: _Fraction, k: int, n: int) -> bool:
        """Whether a fresh uniform number is below p / n."""
        w = _Fraction(self)
        while True:
            while w.bits < x.bits:
                w.extend()
            while x.bits < w.bits:
                x.extend()
            one, scale = 1 << x.bits, n * (2 * k + 2)
            if (w.digits + 1) * scale * one <= x.digits * (2 * k * one + x.digits):
                return True
            if w.digits * scale * one >= (x.digits + 1) * (2 * k * one + x.digits + 1):
                return False
            w.extend()


class _Fraction:
    """A uniform number in (0, 1) of which `bits` binary digits are known: it lies in [digits, digits + 1) / 2^bits."""

    __slots__ = ("_coins", "bits", "digits")

    def __init__(self, coins: _Coins):
        self._coins, self.bits, self.digits = coins, 0, 0
        self.extend()

    def extend(self) -> None:
        self.digits, self.bits = self.digits << 64 | self._coins._word(), self.bits + 64
