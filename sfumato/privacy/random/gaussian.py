"""The discrete Gaussian of any width, drawn with integers only.

No floating-point number decides anything here.

The law. x = k_1 x_1 + ... + k_m x_m, k_1 = 1, each x_i from the discrete Gaussian on Z whose
weights are exp(-x^2 / (2 b)). The base variance b is rational, its distribution function a table.
The sum's variance is s^2 = b (1 + k_2^2 + ... + k_m^2) (convolution: Peikert, eprint 2010/088;
Micciancio and Walter, eprint 2017/259).

How close it is to D(s), the discrete Gaussian of variance s^2. Write S^2 = b (1 + k_2^2 + ... +
k_{i-1}^2) for the variance before factor k = k_i joins, and v = S^2 b / (S^2 + k^2 b). The weight
of x in the next sum is, up to a constant and by completing the square, exp(-x^2 / (2 (S^2 + k^2
b))) times the sum over z in Z of exp(-(z - c)^2 / (2 v)), with a centre c that depends on x. By
Poisson's summation formula that sum is sqrt(2 pi v) (1 + e), |e| <= E(v) = 2 sum_{j >= 1} exp(-2
pi^2 j^2 v). Every factor here has v >= 4, checked with exact fractions, and E(4) < 2^-112. So each
factor costs at most (1 + 2^-112) / (1 - 2^-112) in the ratio of the two laws, both ways and at
every x, the tail included: with at most 5 factors every probability is within exp(+-2^-108) of
D(s)'s. Pointwise ratios are what privacy needs (docs/privacy.md proves the price); a bound on total
variation would not do.

The base is exact to any number of digits: a word of 63 uniform bits is compared with the first 63
bits of the distribution function, and where these are equal (less than once in 2^47 numbers) or the
table ends, more words and more digits are drawn until they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np

# the least conditional variance of a convolution step: 2 sum exp(-8 pi^2 j^2) < 2^-112
SMOOTHING = 4
LARGEST = 1 << 100  # variance: 5 terms are enough
BITS = 63  # of a word: one more is the sign
# standard deviation up to which a table is made: its 40,000 entries stay in the second cache
_WIDEST = 4096
_STEPS = 64  # tables hold base variances in steps of 1 / 2^64
_BUCKETS = 16  # bits of a word that say where in the table to look

MoreWords = Callable[[int, int], Iterator[int]]


class DiscreteGaussian:
    """A sampler of the discrete Gaussian on Z with variance in [variance, variance (1 + 2^-60)].

    The module's docstring has the law. variance: the wanted one, a fraction >= 4 of at most 2^100.
    `base` is b, `factors` are k_1..k_m; one number takes `terms` = m words. Raises ValueError for
    another variance.
    """

    def __init__(self, variance: Fraction):
        variance = Fraction(variance)
        if not SMOOTHING <= variance <= LARGEST:
            raise ValueError(
                "the noise needs a variance from 4 to 2^100 grid units: choose another grid"
            )
        self.factors, self.base = _convolution(variance)
        self.variance = self.base * sum(k * k for k in self.factors)
        self.table = _Table(self.base)

    @property
    def terms(self) -> int:
        """How many 64-bit words one number uses."""
        return len(self.factors)

    def draw(self, words: np.ndarray, more: MoreWords) -> np.ndarray:
        """Draws one integer for each row of words.

        Args:
            words: Uniform uint64 [n, terms].
            more: `more(i, j)`: further words for row i's term j, used when its word does not
                decide;
                they must come from a stream of their own.

        Returns:
            int64 [n] (modulo 2^64).
        """
        total = self.table.signed(np.ascontiguousarray(words[:, 0]), lambda i: more(i, 0))
        for term, factor in enumerate(self.factors[1:], start=1):
            column = np.ascontiguousarray(words[:, term])
            values = self.table.signed(column, lambda i, term=term: more(i, term))
            values *= factor
            total += values
        return total


@lru_cache(maxsize=8)
def discrete_gaussian(variance: Fraction) -> DiscreteGaussian:
    """The sampler of this variance, kept: a table takes up to a tenth of a second."""
    return DiscreteGaussian(variance)


def _convolution(variance: Fraction) -> tuple[tuple[int, ...], Fraction]:
    """Chooses the convolution: the fewest terms, then the smallest table.

    Returns:
        (factors, base variance), with every conditional variance >= 4.

    Raises:
        ArithmeticError: A conditional variance is below 4.
    """
    if variance <= _WIDEST**2:
        return (1,), _round_up(variance)
    terms, width = 2, _WIDEST
    while _most(terms, _WIDEST) < variance:
        terms += 1
    low = 4
    while width - low > 1:  # the smallest table that reaches the variance
        middle = (low + width) // 2
        low, width = (low, middle) if _most(terms, middle) >= variance else (middle, width)
    factors = _factors(terms - 1, width)
    last = math.floor(variance / width**2) - sum(k * k for k in factors)
    factors = (*factors, max(math.isqrt(max(last, 0)), 1))
    base = _round_up(variance / sum(k * k for k in factors))
    if not smooth(factors, base):
        raise ArithmeticError("a convolution step is not smooth")  # the widths above rule it out
    return factors, base


def smooth(factors: tuple[int, ...], base: Fraction) -> bool:
    """Whether every factor's conditional variance S^2 b / (S^2 + k^2 b) is at least 4 (exact)."""
    return base >= SMOOTHING and all(
        sum(k * k for k in factors[:i]) * base >= SMOOTHING * sum(k * k for k in factors[: i + 1])
        for i in range(1, len(factors))
    )


def _factors(terms: int, width: int) -> tuple[int, ...]:
    """The largest factors for a base of this standard deviation."""
    factors: tuple[int, ...] = (1,)
    while len(factors) < terms:
        squares = sum(k * k for k in factors)
        factors = (*factors, math.isqrt(squares * (width * width - SMOOTHING) // SMOOTHING))
    return factors


def _most(terms: int, width: int) -> int:
    """The largest variance of so many terms."""
    return width * width * sum(k * k for k in _factors(terms, width))


def _round_up(value: Fraction) -> Fraction:
    return Fraction(math.ceil(value * 2**_STEPS), 2**_STEPS)


class _Table:
    """The distribution function of |x|, x from the discrete Gaussian of one variance.

    P(|x| <= m) to 63 bits, rounded down.
    """

    def __init__(self, variance: Fraction):
        self.variance = variance
        bits, found = 96, None
        while found is None:
            found, bits = self._thresholds(bits), bits + 64
        self.thresholds = np.array(found, dtype=np.uint64)
        edges = np.arange(1 << _BUCKETS, dtype=np.uint64) << np.uint64(BITS - _BUCKETS)
        self.first = np.searchsorted(self.thresholds, edges, side="left")
        # From `crowded` on a bucket may hold more than one threshold, and the whole table is
        # searched.
        second = self.thresholds[np.minimum(self.first + 1, len(found) - 1)]
        full = (
            second >> np.uint64(BITS - _BUCKETS) == np.arange(1 << _BUCKETS, dtype=np.uint64)
        ).nonzero()[0]
        self.crowded = np.uint64(int(full[0]) if len(full) else (1 << _BUCKETS) - 1) << np.uint64(
            64 - _BUCKETS
        )

    def _thresholds(self, bits: int) -> list[int] | None:
        """Returns every floor(2^63 P(|x| <= m)) until the last cell is reached.

        None if `bits` do not decide one of them.
        """
        lower, error, total = cumulative(self.variance, bits)
        found: list[int] = []
        for weight in lower:
            low, high = (weight << BITS) // total, ((weight + error) << BITS) // lower[-1]
            if high >> BITS:
                high = (1 << BITS) - 1  # a probability is below 1
            if low != high:
                return None
            found.append(low)
            if low == (1 << BITS) - 1:
                return found
        return None

    def signed(self, words: np.ndarray, more: Callable[[int], Iterator[int]]) -> np.ndarray:
        """Returns int64 [n] of the base's law for words uint64 [n].

        The lowest bit of a word is the sign, 63 bits the magnitude.
        """
        uniform = words >> np.uint64(1)
        bucket = (words >> np.uint64(64 - _BUCKETS)).view(np.int64)
        value = self.first.take(bucket)
        threshold = self.thresholds.take(value, out=bucket.view(np.uint64), mode="clip")
        value += uniform > threshold
        tied = (uniform == threshold).nonzero()[0]
        crowded = (words >= self.crowded).nonzero()[0]
        if len(crowded):
            beyond = uniform[crowded]
            at = np.searchsorted(self.thresholds, beyond, side="left")
            value[crowded] = at
            tied = np.concatenate((tied, crowded[self.thresholds[at] == beyond]))
        for index in tied.tolist():
            value[index] = self.resolve(int(uniform[index]), more(index))
        sign = np.bitwise_and(words, np.uint64(1), out=uniform).view(np.int64)
        np.negative(sign, out=sign)
        value ^= sign
        value -= sign
        return value

    def resolve(self, uniform: int, more: Iterator[int]) -> int:
        """The least m with U < P(|x| <= m), U = 0.uniform and as many further words as it takes."""
        bits = BITS
        while True:
            uniform, bits = uniform << 64 | int(next(more)), bits + 64
            lower, error, total = cumulative(self.variance, bits + 64)
            for m, weight in enumerate(lower):
                if (uniform + 1) * total <= weight << bits:
                    return m
                if uniform * lower[-1] < (weight + error) << bits:
                    break  # these digits cannot tell


def cumulative(variance: Fraction, bits: int) -> tuple[list[int], int, int]:
    """Returns (lower, error, total): partial sums of the weights in fixed point, and their limit.

    W_m = 1 + 2 sum_{1 <= j <= m} exp(-j^2 / (2 variance)). In units of 2^-w, w = bits + 64:
    lower[m] <= W_m <= lower[m] + error, and lower[-1] <= W_infinity <= total, and total - lower[-1]
    + error is below 2^-bits of the whole. Every product below is rounded down, so all errors have
    one sign. With a = exp(-1 / (2 variance)) at most 2 units low, a^2 is at most 5 low, the odd
    powers a^(2j+1) at most 2 + 6 j, the weights exp(-j^2 / (2 variance)) at most 3 j^2, and the
    sums at most 2 (m + 1)^3.
    """
    digits = bits + 64
    odd = _exp_minus(1 / (2 * variance), digits)
    square, weight, j = odd * odd >> digits, 1 << digits, 0
    lower, enough = [weight], math.isqrt(math.ceil(variance)) + 1
    while True:
        weight, odd, j = weight * odd >> digits, odd * square >> digits, j + 1
        lower.append(lower[-1] + 2 * weight)
        # 2 sum_{i > j} exp(-i^2 / (2 v)) <= 2 (v / j) exp(-j^2 / (2 v))
        tail = math.ceil(2 * variance / j * (weight + 3 * j * j))
        if j >= enough and tail >> 62 == 0:
            error = 2 * (j + 1) ** 3
            return lower, error, lower[-1] + error + tail


def _exp_minus(x: Fraction, bits: int) -> int:
    """2^bits exp(-x) for 0 < x <= 1/8, rounded down by less than 2 units."""
    digits = bits + 32
    term = total = 1 << digits
    count = 0
    while term:
        count += 1
        term = term * x.numerator // (x.denominator * count)
        total += -term if count % 2 else term
    # each term is less than 2 units off, and there are far fewer than 2^16
    return (total - (1 << 17)) >> 32
