"""M1 and H for class moments: the bound and the noise of both rounds, on dummy latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..methods.warm_up.release import Small, add_noise_once, bounded_total
from ..privacy.mechanisms.moments import Moments
from ..privacy.random.keys import RunKey
from .oneshot import NUMBERS, OneShot

CLASSES, SHAPE, SIDE = 3, (2, 4, 4), 2
SIZE = SHAPE[0] * SIDE * SIDE


def mechanisms() -> list[OneShot]:
    """Both rounds, with bounds that are not 1."""
    return [sums(0), sums(1, 2.5)]


def sums(round_: int, sigma: float = 2.0) -> OneShot:
    """One round of class moments on dummy latents.

    Units of one to five images, in one class or several, some huge, infinite or NaN.
    """
    rng = np.random.default_rng(9)
    sizes = (1, 2, 5, 1)
    ends = np.cumsum(sizes)
    owned = [np.arange(b - s, b) for s, b in zip(sizes, ends)]
    latents = rng.standard_normal((int(ends[-1]), *SHAPE)).astype(np.float32)
    label = np.arange(len(latents)) % CLASSES
    label[1:3] = 1
    means = rng.standard_normal((CLASSES, SIZE))
    own = Moments(CLASSES, SIZE, 2, (1.5, 0.7), (4.0,) * CLASSES, sigma, counting=0.3)

    def release(data: Any, key: RunKey) -> np.ndarray:
        if data is None:
            # nobody adds to many classes
            wide = replace(own, classes=NUMBERS, divisors=(4.0,) * NUMBERS)
            nobody = np.zeros((NUMBERS, 1), np.int64)
            return add_noise_once(wide, round_, nobody, key, 0).reshape(-1) * own.unit(round_)
        said, marks = data
        total = bounded_total(own, round_, Small(said, SIDE), marks, owned, means)
        return add_noise_once(own, round_, total, key, 0).reshape(-1) * own.unit(round_)

    pairs: dict[str, tuple[Any, Any]] = {}
    for unit, images in enumerate(owned):
        gone, empty = label.copy(), latents.copy()
        gone[images], empty[images] = -1, 0
        pairs[f"unit {unit}"] = ((latents, label), (empty, gone))
        for scale in (1e-12, 1e12, 1e38, np.inf, np.nan):
            strange = latents.copy()
            with np.errstate(over="ignore"):
                strange[images] *= np.float32(scale)
            pairs[f"unit {unit} times {scale:g}"] = ((strange, label), (empty, gone))
    bound = own.bounds[round_] ** (round_ + 1)
    name = f"class moments, round {round_ + 1}"
    return OneShot(name, release, pairs, None, bound, sigma, own.unit(round_))
