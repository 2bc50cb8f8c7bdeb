"""Public sizes of the pictures: which one a picture goes to, and parts of a batch of one size.

A picture's bucket follows from its own width and height and the declared sizes, never from other
pictures. Units pass one at a time, so that no other's size shapes what a unit is computed in; all
draws of a unit in a step look at pictures of one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def nearest_bucket(pictures: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """The bucket of each picture: nearest in shape, of equal shapes nearest in area.

    Args:
        pictures: Width and height, int [n, 2]; zeros for one that cannot be used.
        sizes: Declared, (width, height).

    Returns:
        int64 [n], places in `sizes`; the first of equals.
    """
    own, declared = np.log(np.maximum(pictures, 1)), np.log(np.asarray(sizes, float))
    shape = np.abs((own[:, :1] - own[:, 1:]) - (declared[:, 0] - declared[:, 1]))
    area = np.abs(own.sum(1, keepdims=True) - declared.sum(1))
    # shapes that differ by rounding of a pixel or so count as equal
    best = shape <= shape.min(1, keepdims=True) + 1e-6
    return np.where(best, area, np.inf).argmin(1)


@dataclass(frozen=True)
class Buckets:
    """Which bucket each image has, and each unit's images by bucket.

    Attributes:
        shapes: (C, h, w) of the latents of each bucket.
        image: int64 [n], the bucket of each image.
        begin, count: int64 [n], for each place of `LatentData.order` where the unit's images of
            the same bucket begin and how many they are.
    """

    shapes: tuple[tuple[int, int, int], ...]
    image: np.ndarray
    begin: np.ndarray
    count: np.ndarray

    @property
    def numbers(self) -> int:
        """Numbers of the largest latent; the rows of all buckets are kept in so many."""
        return max(int(np.prod(shape)) for shape in self.shapes)

    def order(self, unit: np.ndarray) -> np.ndarray:
        """Images by unit, and of a unit by bucket."""
        return np.lexsort((np.arange(len(unit)), self.image, unit))

    @classmethod
    def of(
        cls, shapes: Sequence[tuple[int, int, int]], image: np.ndarray, unit: np.ndarray
    ) -> Buckets:
        """From each image's bucket and unit, int64 [n] each."""
        blank = cls(tuple(shapes), image, image, image)
        order = blank.order(unit)
        pairs = np.stack([unit[order], image[order]], axis=1)
        starts = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=1)) + 1
        starts = np.concatenate([[0], starts])
        runs = np.diff(np.concatenate([starts, [len(order)]]))
        return cls(tuple(shapes), image, np.repeat(starts, runs), np.repeat(runs, runs))

    def together(self, place: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """All draws of a unit on images of one bucket: that of the image that its first one picks.

        Args:
            place: int64 [units, K], where in the order the draws would look.
            uniform: [units, K] in [0, 1), which image of the bucket each further draw takes.
        """
        lead = place[:, :1]
        others = self.begin[lead] + (uniform[:, 1:] * self.count[lead]).astype(np.int64)
        return np.concatenate([lead, others], axis=1)
