"""Distances between two sets of features, in float64, with the numbers of images they rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sfumato.errors import SfumatoError

FEW = 5000


class KernelDistance(NamedTuple):
    """Mean over blocks, and their sample deviation (None for one block), number and size."""

    mean: float
    std: float | None
    blocks: int
    block_size: int


class Manifold(NamedTuple):
    """Shares in 0..1, except density, which may exceed 1.

    `k` nearest neighbours, numbers of images.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    n_real: int
    n_fake: int


@dataclass(frozen=True)
class Comparison:
    """All distances between real and synthetic images in the features called `features`.

    Printed as FD-<features> and KD-<features>: neither is an FID or KID, whose values need the
    Inception network.
    """

    features: str
    dimensions: int
    frechet: float
    kernel: KernelDistance
    manifold: Manifold

    def __str__(self) -> str:
        n_real, n_fake = self.manifold.n_real, self.manifold.n_fake
        few = (
            ", few images: biased upwards, read the order only" if min(n_real, n_fake) < FEW else ""
        )
        spread = "" if self.kernel.std is None else f" +- {self.kernel.std:.4g}"
        blocks = f"{self.kernel.blocks} blocks of {self.kernel.block_size}"
        shares = ", ".join(
            f"{key} {getattr(self.manifold, key):.3f}" for key in Manifold._fields[:4]
        )
        counts = f"n = {n_real} real, {n_fake} synthetic"
        lines = [
            f"FD-{self.features}: {self.frechet:.4g} ({counts}, d = {self.dimensions}{few})",
            f"KD-{self.features}: {self.kernel.mean:.4g}{spread} ({blocks}; {counts})",
            f"{shares} ({self.features}, k = {self.manifold.k}, {counts})",
        ]
        return "\n".join(lines)


def compare(
    extractor: Callable[[np.ndarray], np.ndarray],
    real_images: np.ndarray,
    fake_images: np.ndarray,
    *,
    name: str | None = None,
    k: int = 5,
    seed: int = 0,
) -> Comparison:
    """Every distance between two sets of uint8 images [N, R, R, 3] in the features of `extractor`.

    Against private images the result is not differentially private and belongs in the run folder.
    SfumatoError when a set has fewer than k + 1 images or the extractor has no name.

    Args:
        extractor: uint8 images -> float [N, d].
        real_images: uint8 [N, R, R, 3].
        fake_images: uint8 [M, R, R, 3].
        name: Of the features; default: `extractor.name`.
        k: Neighbours of precision and recall.
        seed: Of the blocks of the kernel distance.
    """
    name = name or getattr(extractor, "name", None)
    if not name:
        raise SfumatoError(
            "a distance bears the name of its features: pass name=..., or an Extractor"
        )
    real, fake = _pair(extractor(real_images), extractor(fake_images))
    return Comparison(
        name,
        real.shape[1],
        frechet_distance(real, fake),
        kernel_distance(real, fake, seed=seed),
        precision_recall_density_coverage(real, fake, k=k),
    )


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to features (arXiv 1706.08500), in float64.

    |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the last trace from the eigenvalues of C1^(1/2)
    C2 C1^(1/2), which stays real when a covariance is singular. Biased upwards when N is not much
    larger than d. SfumatoError for fewer than two rows, differing d, or non-finite numbers.

    Args:
        real: Features [N, d].
        fake: Features [M, d].
    """
    real, fake = _pair(real, fake)
    shift = real.mean(0) - fake.mean(0)
    one, two = np.atleast_2d(np.cov(real, rowvar=False)), np.atleast_2d(np.cov(fake, rowvar=False))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(0)).sum()
    return float(max(0.0, shift @ shift + np.trace(one) + np.trace(two) - 2 * cross))


def kernel_distance(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    blocks: int = 10,
    block_size: int = 1000,
    degree: int = 3,
    seed: int = 0,
) -> KernelDistance:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^degree (arXiv 1801.01401).

    Both sets are shuffled by `seed` and cut into disjoint blocks (smaller or fewer when there are
    few images), so that the deviation over blocks is honest. May be negative. SfumatoError for
    fewer than two rows or differing d.

    Args:
        real: Features [N, d].
        fake: Features [M, d].
        blocks: The most blocks.
        block_size: The most rows of a block.
        degree: Of the kernel.
        seed: Public.
    """
    real, fake = _pair(real, fake)
    n = min(len(real), len(fake))
    blocks = max(1, min(blocks, n // 2))
    size = min(block_size, n // blocks)
    if size < 2:
        raise SfumatoError("block_size must be at least 2: the unbiased estimate needs pairs")
    generator = np.random.Generator(np.random.PCG64(seed))
    left, right = generator.permutation(len(real)), generator.permutation(len(fake))
    values = []
    for block in range(blocks):
        rows = slice(block * size, (block + 1) * size)
        x, y = real[left[rows]], fake[right[rows]]
        xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** degree for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        values.append(within - 2 * xy.mean())
    std = float(np.std(values, ddof=1)) if blocks > 1 else None
    return KernelDistance(float(np.mean(values)), std, blocks, size)


def precision_recall_density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Manifold:
    """Improved precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    A ball's radius is the distance to the k-th neighbour in its own set, itself not counted; a
    point on the ball's edge is outside. Memory is 1,000 rows of distances at a time. SfumatoError
    unless both sets exceed k rows.

    Args:
        real: Features [N, d].
        fake: Features [M, d].
        k: Neighbours.
    """
    real, fake = _pair(real, fake)
    if k < 1 or min(len(real), len(fake)) <= k:
        raise SfumatoError(
            f"k = {k} neighbours need more than k images on each side, got {len(real)} and"
            f" {len(fake)}"
        )
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    real_radius, fake_radius = _radius(real, k), _radius(fake, k)
    inside = np.zeros(len(fake), dtype=np.int64)
    covered, recalled = 0, 0
    for start in range(0, len(real), 1000):
        rows = slice(start, start + 1000)
        squared = _squared(real[rows], fake)
        inside += (squared < real_radius[rows, None]).sum(0)
        covered += int((squared.min(1) < real_radius[rows]).sum())
        recalled += int((squared < fake_radius[None, :]).any(1).sum())
    return Manifold(
        precision=float((inside > 0).mean()),
        recall=recalled / len(real),
        density=float(inside.mean() / k),
        coverage=covered / len(real),
        k=k,
        n_real=len(real),
        n_fake=len(fake),
    )


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T).clip(0)


def _radius(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th neighbour in x."""
    parts = []
    for start in range(0, len(x), 1000):
        squared = _squared(x[start : start + 1000], x)
        rows = np.arange(len(squared))
        squared[rows, start + rows] = np.inf
        parts.append(np.partition(squared, k - 1, axis=1)[:, k - 1])
    return np.concatenate(parts)


def _pair(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    real, fake = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise SfumatoError(
            f"features must be [N, d] with one d, got {list(real.shape)} and {list(fake.shape)}"
        )
    if min(len(real), len(fake)) < 2:
        raise SfumatoError("a distance needs at least two images on each side")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise SfumatoError("features hold non-finite numbers")
    return real, fake
