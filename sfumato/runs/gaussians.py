"""Bases as Gaussians of their public pictures: which of them makes a private image likeliest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import SfumatoError
from ..methods.evolution.spaces import SIDE
from ..privacy.mechanisms.base_vote import DIRECTIONS

FAINT = 0.05  # added to the standard deviation of a picture's greys, which may be 0
SAME = 1e-3  # features that differ by less do so by rounding: those of pictures of one grey do
LEAST = 1e-6  # of the largest spread (squared: of the mean variance) is none to tell bases apart by


def contrast(pictures: np.ndarray) -> np.ndarray:
    """Greys of a picture, less their mean, over their standard deviation.

    Args:
        pictures: uint8 [B, R, R, 3].

    Returns:
        float32 [B, SIDE * SIDE].
    """
    x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255
    if x.shape[-1] > SIDE:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
    x = x.mean(1).flatten(1)
    x = x - x.mean(1, keepdim=True)
    return (x / (x.std(1, keepdim=True) + FAINT)).numpy()


def factors_of(tables: Sequence[np.ndarray]) -> np.ndarray:
    """What `likeliest` asks with: a public function of public pictures.

    Each base is a Gaussian in the main directions of all pictures together. Its covariance is
    shrunk towards the mean of all bases' covariances, which counts as `DIRECTIONS` pictures, so
    that few pictures, or equal ones, make a Gaussian too.

    Args:
        tables: Of each base the features [pictures, d] of its pictures.

    Returns:
        float64 [bases, k + 1, d + 1]: the squared length of a base's factor times (features, 1) is
        minus twice the log density of its Gaussian, up to what all bases have in common.

    Raises:
        SfumatoError: Features that are not finite, or pictures that are all alike.
    """
    every = np.concatenate(tables).astype(np.float64)
    if not np.isfinite(every).all():
        raise SfumatoError("--bases: the pictures of a base have features that are not finite")
    if np.ptp(every, axis=0).max() < SAME:
        raise SfumatoError(
            "--bases: the pictures of all candidates are one and the same, so nothing tells them"
            " apart: name bases that draw different pictures"
        )
    middle = every.mean(0)
    _, spread, rows = np.linalg.svd(every - middle, full_matrices=False)
    main = rows[:DIRECTIONS][spread[:DIRECTIONS] > LEAST * spread[0]]
    flat = [(table.astype(np.float64) - middle) @ main.T for table in tables]
    means = [one.mean(0) for one in flat]
    own = [(one - mean).T @ (one - mean) / len(one) for one, mean in zip(flat, means)]
    pooled, least = np.mean(own, axis=0), LEAST * (spread[: len(main)] ** 2).mean() / len(every)
    factors, levels = [], []
    for one, mean, covariance in zip(flat, means, own):
        share = DIRECTIONS / (DIRECTIONS + len(one))
        shrunk = (1 - share) * covariance + share * pooled + least * np.eye(len(main))
        root = np.linalg.cholesky(shrunk)
        factors.append(np.linalg.solve(root, np.column_stack([main, -(main @ middle + mean)])))
        levels.append(2 * np.log(np.diag(root)).sum())
    last = np.zeros((len(tables), 1, len(middle) + 1))
    last[:, 0, -1] = np.sqrt(np.array(levels) - min(levels))
    return np.concatenate([np.stack(factors), last], axis=1)


def likeliest(features: np.ndarray, sound: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The base that makes each image likeliest, of equals the first; PRIVATE.

    A row is the same whatever stands in the others, as long as there are equally many.

    Args:
        features: Float [n, d].
        sound: Bool [n]; what is not, or is not finite, names -1.
        factors: Of `factors_of`.

    Returns:
        int64 [n].
    """
    sound = sound & np.isfinite(features).all(1)
    wide = np.ones((len(features), features.shape[1] + 1))
    wide[:, :-1] = np.where(sound[:, None], features, 0)
    away = wide @ factors.reshape(-1, factors.shape[2]).T
    with np.errstate(over="ignore"):  # nothing is said of a private image
        far = (away.reshape(len(features), len(factors), -1) ** 2).sum(2)
    return np.where(sound, np.argmin(far, axis=1), -1)
