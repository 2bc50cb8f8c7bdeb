"""From noisy class moments to pictures: free post-processing.

Each class is a Gaussian of small pictures: its noisy mean, and of its noisy covariance what stands
out of the noise. A noisy symmetric matrix shows its largest eigenvalues too large, by an amount
that the noise alone decides (Benaych-Georges and Nadakuditi, arXiv 0910.2120), and those within
the noise not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ...privacy.mechanisms.moments import Moments
from .release import class_means, class_sizes, size_of

if TYPE_CHECKING:
    from ...bases import Base


@dataclass(frozen=True)
class Pictures:
    """What to draw from, class by class.

    means: float32 [classes, numbers]; spread: per class [numbers, k], the directions in which its
    pictures vary, each as long as its standard deviation. shape: of a latent. side: of the small
    pictures. clamped: whether numbers end at -1 and 1, as those of pixels do.
    """

    means: torch.Tensor
    spread: tuple[torch.Tensor, ...]
    shape: tuple[int, int, int]
    side: int
    clamped: bool

    def draw(self, label: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Latents [B, C, h, w] of classes int64 [B], scaled up."""
        drawn = self.means[label].clone()
        most = max((one.shape[1] for one in self.spread), default=0)
        normal = torch.randn((len(label), most), generator=generator)
        for number in label.unique().tolist():
            rows, own = label == number, self.spread[number]
            drawn[rows] += normal[rows, : own.shape[1]] @ own.T
        channels, height, width = self.shape
        size = size_of(self.shape, self.side)
        plain = drawn.view(len(label), channels, *size)
        large = F.interpolate(plain, size=(height, width), mode="bicubic", align_corners=False)
        return large.clamp(-1, 1) if self.clamped else large


def pictures_of(
    moments: Moments,
    noisy: Sequence[np.ndarray],
    shape: tuple[int, int, int],
    side: int,
    clamped: bool = False,
) -> Pictures:
    """What the noisy sums of all rounds show.

    Args:
        moments: The mechanism, with its noise.
        noisy: int64, as `release` returned them.
        shape: Of a latent.
        side: Of the small pictures.
        clamped: Whether numbers end at -1 and 1 (`plain_pixels`).
    """
    means = class_means(moments, noisy[0])
    spread = [np.zeros((moments.numbers, 0))] * moments.classes
    if moments.rounds > 1:
        sizes = class_sizes(moments, noisy[0])
        found = covariances(moments, noisy[1], sizes)
        spread = [denoised(own, deviation(moments, 1, n)) for own, n in zip(found, sizes)]
    parts = tuple(torch.from_numpy(own.astype(np.float32)) for own in spread)
    return Pictures(torch.from_numpy(means.astype(np.float32)), parts, shape, side, clamped)


def plain_pixels(base: Base) -> bool:
    """Whether its latents are pixels: as many as its pictures have.

    Channels would not tell: a VQ model's latents have three, too.
    """
    return base.latent_shape[1:] == (base.resolution, base.resolution)


def covariances(moments: Moments, noisy: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """The second round's noisy sums as symmetric matrices [numbers, numbers], one per class.

    Args:
        moments: The mechanism.
        noisy: int64, the sums.
        sizes: Of the classes (`class_sizes`).
    """
    sums = noisy * moments.unit(1)
    return [_square(moments.numbers, own / size) for own, size in zip(sums, sizes)]


def _square(numbers: int, products: np.ndarray) -> np.ndarray:
    """The symmetric matrix of products of pairs."""
    out = np.zeros((numbers, numbers))
    i, j = np.triu_indices(numbers)
    out[i, j] = products * np.where(i == j, 1.0, math.sqrt(0.5))
    return np.triu(out) + np.triu(out, 1).T


def deviation(moments: Moments, round_: int, size: float) -> float:
    """Standard deviation of the noise on a number of a class's mean.

    In round 1: on an entry beside the diagonal of its covariance.
    """
    spread = moments.noise_stddev * moments.unit(round_) / size
    return spread * math.sqrt(0.5) if round_ else spread


def denoised(matrix: np.ndarray, tau: float) -> np.ndarray:
    """Eigenvectors [d, k] that stand out of symmetric noise, each times its standard deviation.

    Args:
        matrix: [d, d], a covariance plus noise.
        tau: Standard deviation of the noise beside the diagonal.
    """
    edge = 2 * tau * math.sqrt(len(matrix))  # the noise's own largest eigenvalue, about
    value, vector = np.linalg.eigh(matrix)
    seen = value > edge
    value = value[seen]
    true = (value + np.sqrt(value**2 - edge**2)) / 2
    return vector[:, seen] * np.sqrt(true)
