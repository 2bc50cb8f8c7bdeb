"""The expected quality of a noisy mean, from public numbers alone, before anything is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...pages.forecast import LITTLE, NOTHING, SOMETHING

ASSUMED_SIGNAL = 0.4  # of the radius, where no public images say it: a cautious guess
# cosines: what is worth having, and below what the answer is mostly noise
ENOUGH, NOISE = 0.75, 0.5


@dataclass(frozen=True)
class Forecast:
    """Expected quality of one class's released direction, as it differs from the anchor.

    signal, noise: norms of the mean and of the noise on it, as shares of the clip norm. snr: their
    ratio. cosine: expected, between what is released and the mean without noise. known: signal
    comes from public images and is no assumption. needed: how many units a class would need for the
    cosine ENOUGH, None if it has them.
    """

    signal: float
    noise: float
    snr: float
    cosine: float
    known: bool
    needed: int | None

    @property
    def word(self) -> str:
        """`SOMETHING`, `LITTLE` or `NOTHING` can be learned: what `plan` and a report say alike."""
        if self.cosine >= ENOUGH:
            return SOMETHING
        return NOTHING if self.cosine < NOISE else LITTLE

    @property
    def remark(self) -> str | None:
        """One line for the person who plans; None if the answer will be good."""
        if self.cosine >= ENOUGH:
            return None
        what = "mostly noise" if self.cosine < NOISE else "noticeably noisy"
        return (
            f"the released direction will be {what} (expected cosine to the exact mean"
            f" {self.cosine:.2f}): about {self.needed:,} units a class, a larger epsilon or fewer"
            " --dimensions would do"
        )


def forecast(
    *,
    noise_multiplier: float,
    units: float,
    dimensions: int,
    signal: float | None = None,
    spectrum: torch.Tensor | None = None,
    radius: float = 1.0,
) -> Forecast:
    """The forecast for a class of `units` units (the divisor) with clip norm `radius`.

    With m^2 = s^2 + (1 - s^2) / n, the squared norm of a mean of n vectors of which s is common,
    and noise of deviation t = sigma / n in each of P coordinates, the cosine is m / sqrt(m^2 + P
    t^2). If a public spectrum L_j is known and Wiener's filter is used, it is sqrt(sum_j w_j L_j
    / sum_j L_j) with w_j = L_j / (L_j + t^2), which is never less.

    Args:
        noise_multiplier: sigma.
        units: n.
        dimensions: P.
        signal: s, a share of the clip norm; None: assumed.
        spectrum: L_j [P], variances of public styles' mean coordinates.
        radius: The clip norm, in the spectrum's unit.
    """
    common = ASSUMED_SIGNAL if signal is None else min(1.0, signal)
    shape = None if spectrum is None else (spectrum.double() / spectrum.double().sum()).tolist()

    def at(n: float) -> tuple[float, float, float]:
        mean, deviation = math.sqrt(common**2 + (1 - common**2) / n), noise_multiplier / n
        noise = deviation * math.sqrt(dimensions)
        if shape is None:
            return mean, noise, mean / math.hypot(mean, noise)
        power = [part * mean**2 for part in shape]
        return mean, noise, math.sqrt(sum(p * p / (p + deviation**2) for p in power) / sum(power))

    mean, noise, cosine = at(units)
    needed = None
    if cosine < ENOUGH:
        low, high = units, 2 * units
        while at(high)[2] < ENOUGH and high < 1e9:
            low, high = high, 2 * high
        while high - low > max(1.0, 0.01 * low):
            middle = (low + high) / 2
            low, high = (low, middle) if at(middle)[2] >= ENOUGH else (middle, high)
        needed = math.ceil(high)
    return Forecast(mean, noise, mean / noise, cosine, signal is not None, needed)
