"""Moves pictures to the noisy class moments: free post-processing.

A model's pictures of a class have a mean and a covariance, known from drawing some. Where those of
the private class differ by more than their noise, the linear map that carries one Gaussian to the
other with the least movement (Olkin and Pukelsheim, Linear Algebra and its Applications 48, 1982)
moves each picture. What noise hides stays as the model has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...compute.device import on_host, to_device
from ...privacy.mechanisms.moments import Moments
from .pictures import covariances, deviation
from .release import class_means, class_sizes, size_of

POOLED = 0.1  # what the classes' mean covariance counts in that of each


@dataclass(frozen=True)
class Transport:
    """The map of every class, between small pictures.

    middle, shift: float32 [classes, numbers]: the model's mean, and how far it moves. change:
    float32 [classes, numbers, numbers]: what a picture's distance from that mean gains. shape: of
    a latent. side: of the small pictures. clamped: whether numbers end at -1 and 1.
    """

    middle: torch.Tensor
    shift: torch.Tensor
    change: torch.Tensor
    shape: tuple[int, int, int]
    side: int
    clamped: bool

    def __call__(self, latents: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        """Latents [B, C, h, w] of classes int64 [B], moved.

        Details finer than small pictures stay.
        """
        own = torch.from_numpy(labels)
        x = smalls(latents, self.side).float()
        away = x - self.middle[own]
        # one at a time: as many matrices as pictures would take gigabytes
        away = torch.stack([row @ self.change[c] for row, c in zip(away, labels.tolist())])
        size = size_of(self.shape, self.side)
        moved = (away + self.shift[own]).view(len(x), self.shape[0], *size)
        moved = F.interpolate(moved, size=self.shape[1:], mode="bicubic", align_corners=False)
        found = latents + to_device(moved.to(latents.dtype), latents.device)
        return found.clamp(-1, 1) if self.clamped else found


def smalls(latents: torch.Tensor, side: int) -> torch.Tensor:
    """Latents [B, C, h, w] as means of areas, float64 [B, C * side * side] in host memory."""
    plain = on_host(latents, torch.float64)
    return F.adaptive_avg_pool2d(plain, size_of(plain.shape[1:], side)).flatten(1)


def transport(
    moments: Moments,
    noisy: Sequence[np.ndarray],
    drawn: Sequence[np.ndarray],
    shape: tuple[int, int, int],
    side: int,
    clamped: bool = False,
) -> Transport:
    """The maps that the noisy sums show.

    Args:
        moments: The mechanism, with its noise, of two rounds.
        noisy: int64, as `release` returned them.
        drawn: Per class, small pictures of the model, float64 [n, numbers].
        shape: Of a latent.
        side: Of the small pictures.
        clamped: As in `Transport`.
    """
    means, sizes = class_means(moments, noisy[0]), class_sizes(moments, noisy[0])
    found = covariances(moments, noisy[1], sizes)
    centred = [own - own.mean(0) for own in drawn]
    pooled = np.mean([own.T @ own / len(own) for own in centred], 0)
    maps = [
        _map(moments, mean, products, size, own, pooled)
        for mean, products, size, own in zip(means, found, sizes, drawn)
    ]
    parts = [torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*maps)]
    return Transport(parts[0], parts[1], parts[2], shape, side, clamped)


def _map(
    moments: Moments,
    mean: np.ndarray,
    products: np.ndarray,
    size: float,
    own: np.ndarray,
    pooled: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle, shift and change of one class.

    The model's pictures are cut as the mechanism cuts private ones, so that like is compared with
    like; their covariance is known from few, so that of all classes takes a part in it.
    """
    n, numbers = own.shape
    middle = own.mean(0)
    centred = own - middle
    covariance = (1 - POOLED) * centred.T @ centred / n + POOLED * pooled
    hidden = numbers * deviation(moments, 0, size) ** 2 + np.trace(covariance) / n
    shift = outstanding(mean - cut(own, moments.picture_bound).mean(0), hidden)
    residual = cut(centred, moments.bounds[1])
    change = standing_out(products - residual.T @ residual / n, deviation(moments, 1, size))
    return middle, shift, carrying(covariance, covariance + change) - np.eye(numbers)


def cut(vectors: np.ndarray, bound: float) -> np.ndarray:
    """Rows scaled down to a norm, where they are longer."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.minimum(1.0, bound / np.maximum(norm, 1e-12))


def outstanding(vector: np.ndarray, hidden: float) -> np.ndarray:
    """A noisy vector times what James and Stein leave of it; `hidden`: its noise's mean square."""
    square = float(vector @ vector)
    return vector * max(0.0, 1.0 - hidden / square) if square > 0 else vector


def standing_out(matrix: np.ndarray, tau: float) -> np.ndarray:
    """A symmetric matrix plus noise, less what noise could be: eigenvalues within it are zero.

    The others are as small as they were before noise made them larger (Benaych-Georges and
    Nadakuditi, arXiv 0910.2120). tau: as in `pictures.denoised`.
    """
    edge = 2 * tau * np.sqrt(len(matrix))
    value, vector = np.linalg.eigh(matrix)
    size = np.abs(value)
    true = (size + np.sqrt(np.maximum(size**2 - edge**2, 0.0))) / 2
    return (vector * np.where(size > edge, np.sign(value) * true, 0.0)) @ vector.T


def carrying(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The symmetric matrix T, T own T = wanted, of least movement.

    Where noise made `wanted` negative, it has the least variance of `own`: in the metric of the
    noise, which is the same in all directions (floors in units of `own` cost 0.26 points on MNIST).
    Directions in which `own` has none are not moved.
    """
    if np.array_equal(own, wanted):  # nothing stands out: not even roundings move a picture
        return np.eye(len(own))
    value, vector = np.linalg.eigh(own)
    seen = value > 1e-6 * max(value[-1], 1e-12)
    if not seen.any():  # a model that draws one picture only
        return np.eye(len(own))
    value, vector = value[seen], vector[:, seen]
    root = np.sqrt(value)
    inside = vector.T @ wanted @ vector
    least, turned = np.linalg.eigh(inside)
    inside = (turned * np.maximum(least, value[0])) @ turned.T
    middle, around = np.linalg.eigh(root[:, None] * inside * root[None])
    half = (around * np.sqrt(np.maximum(middle, 0.0))) @ around.T
    found = half / root[:, None] / root[None]
    return vector @ (found - np.eye(len(value))) @ vector.T + np.eye(len(own))
