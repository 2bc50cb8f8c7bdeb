"""From one embedding per image to one noisy mean per class.

Units first, then the bound, then noise once, then free post-processing.
"""

from __future__ import annotations

import numpy as np
import torch

from ...privacy.mechanisms.mean import GRID, STEP, Aggregation
from ...privacy.random.keys import RunKey
from ...privacy.random.noise import noisy_vector
from .geometry import Geometry

UNITS = 1024  # bounded at once, so that memory does not grow with their number


def vector_of(
    aggregation: Aggregation, geometry: Geometry, vectors: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Returns the vectors that images add, float64 [n, P].

    The residual's coordinates, or, for unit vectors, the embedding itself.

    Args:
        aggregation: The mechanism.
        geometry: Anchor and axes.
        vectors: Embeddings [n, V * D].
        label: Classes [n].
    """
    if aggregation.rule == "unit":
        return vectors.astype(np.float64)
    residual = vectors.astype(np.float64) - geometry.anchor.numpy()[label]
    return residual @ geometry.basis.numpy().astype(np.float64)


def unit_vectors(
    aggregation: Aggregation, vectors: np.ndarray, label: np.ndarray, owned: list[np.ndarray]
) -> np.ndarray:
    """Returns the units' means, float64 [U, blocks * P].

    An image fills its own class's block only. Images with label -1 or a vector that is not finite
    are left out of their unit's mean: a function of that unit alone.

    Args:
        aggregation: The mechanism.
        vectors: Float [n, P] of n images.
        label: int64 [n].
        owned: The images of each unit.
    """
    out = np.zeros((len(owned), aggregation.blocks, aggregation.dimensions))
    for row, images in zip(out, owned):
        use = [i for i in images if label[i] >= 0 and np.isfinite(vectors[i]).all()]
        for i in use:
            row[label[i]] += vectors[i] / len(use)
    return out.reshape(len(owned), -1)


def bounded_total(
    aggregation: Aggregation,
    clip_norm: float,
    vectors: np.ndarray,
    label: np.ndarray,
    owned: list[np.ndarray],
) -> np.ndarray:
    """Returns the sum of the units' bounded vectors, int64 [blocks * P] in grid units.

    Not yet noisy, so PRIVATE. Integers add exactly.

    Args:
        aggregation: The mechanism.
        clip_norm: The L2 bound on a unit.
        vectors: As in `unit_vectors`.
        label: As in `unit_vectors`.
        owned: As in `unit_vectors`.
    """
    total = np.zeros(aggregation.numbers, np.int64)
    for start in range(0, len(owned), UNITS):
        part = unit_vectors(aggregation, vectors, label, owned[start : start + UNITS])
        total += aggregation.unit_rows(part, clip_norm).sum(0)
    return total


def add_noise_once(
    aggregation: Aggregation,
    noise_multiplier: float,
    total: np.ndarray,
    key: RunKey,
    attempt: int,
    name: str = "sum",
) -> np.ndarray:
    """Returns the noisy sum, int64; billed as Gaussian(noise_multiplier).

    Args:
        aggregation: The mechanism.
        noise_multiplier: Noise sd / sensitivity.
        total: int64 [blocks * P], in grid units.
        key: The run key of the attempt.
        attempt: The attempt.
        name: With (aggregate, STEP, attempt), the address of the noise.
    """
    stddev = aggregation.noise_stddev(noise_multiplier)
    return noisy_vector(total, stddev, key, step=STEP, attempt=attempt, name=name)


def embeddings(
    aggregation: Aggregation,
    geometry: Geometry,
    clip_norm: float,
    noise_multiplier: float,
    noisy: np.ndarray,
) -> torch.Tensor:
    """Returns the released token vectors [blocks, V, D] from the noisy sum: free post-processing.

    Divides by the public divisors and, with `shrink`, takes off what noise of known size adds:
    Wiener's filter where public styles have shown how much each coordinate varies, else James and
    Stein's positive part. Unit vectors get the length of a public word (the radius), which a mean
    of unit vectors has lost.

    Args:
        aggregation: The mechanism.
        geometry: Anchor, axes, radius and spectrum.
        clip_norm: The L2 bound on a unit.
        noise_multiplier: Noise sd / sensitivity.
        noisy: int64 [blocks * P], in grid units.
    """
    blocks = noisy.astype(np.float64).reshape(aggregation.blocks, -1) * (clip_norm / GRID)
    mean = torch.from_numpy(blocks / np.asarray(aggregation.divisors)[:, None])
    tau = torch.tensor(
        [noise_multiplier * clip_norm / d for d in aggregation.divisors], dtype=torch.float64
    )[:, None]
    if aggregation.shrink and geometry.spectrum is not None:
        mean = mean * (geometry.spectrum.double() / (geometry.spectrum.double() + tau**2))
    elif aggregation.shrink and aggregation.dimensions > 2:
        square = mean.square().sum(1, keepdim=True).clamp_min(1e-300)
        mean = mean * (1 - (aggregation.dimensions - 2) * tau**2 / square).clamp_min(0.0)
    label = torch.arange(aggregation.blocks)
    if aggregation.rule == "clip":
        # a mean of vectors in this ball lies in it
        mean = mean * (clip_norm / mean.norm(dim=1, keepdim=True).clamp_min(clip_norm))
        return geometry.embeddings(mean.float(), label)
    length = geometry.radius / mean.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return (mean * length).float().view(aggregation.blocks, geometry.vectors, -1)
