"""Draws pictures as a run's weights do, then moves each to the class moments that were paid for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...bases import Base
from ...options import Sampling
from ...options.progress import tell
from ...privacy.mechanisms.moments import Moments
from ...synthesis.sampler import Sampler, image_seed, in_pieces
from .pictures import plain_pixels
from .transport import Transport, smalls, transport


@dataclass(frozen=True)
class Moved:
    """Draws a data set as `sampler.pictures` does, each picture moved by its class's map.

    Attributes:
        moments: The mechanism, with its noise, of two rounds.
        noisy: int64, its noisy sums.
        side: Of the small pictures of a base.
        drawn: Pictures a class by which the model's own moments are known; more than small
            pictures have numbers.
    """

    moments: Moments
    noisy: Sequence[np.ndarray]
    side: Callable[[Base], int]
    drawn: int

    def __call__(
        self,
        base: Base,
        prompts: Sequence[str],
        labels: np.ndarray,
        indices: np.ndarray,
        sampling: Sampling,
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Yields (image numbers, uint8 images [P, R, R, 3]) piece by piece.

        Args:
            base: The adapted base.
            prompts: One per class.
            labels: Class of every image number, int64.
            indices: Numbers of the images to draw.
            sampling: Sampler, steps, guidance and public seed.
        """
        sampler = Sampler(base, prompts, sampling)
        moves = self.fitted(sampler)

        def work(part: np.ndarray) -> np.ndarray:
            return base.decode(moves(sampler.latents(labels[part], part), labels[part]))

        return in_pieces(sampler, indices, work)

    def fitted(self, sampler: Sampler) -> Transport:
        """The maps, from pictures whose seeds no picture of a data set has."""
        base, classes = sampler.base, len(sampler.prompts)
        side = self.side(base)
        own = replace(sampler.sampling, seed=image_seed(sampler.sampling.seed, -1))
        # of many prompts the sampler holds no embeddings but the empty one's
        text = sampler.text if sampler.whole else None
        apart = Sampler(base, sampler.prompts, own, text)
        labels, done = np.arange(classes * self.drawn) % classes, 0
        found = np.empty((len(labels), self.moments.numbers))

        def work(part: np.ndarray) -> np.ndarray:
            return smalls(apart.latents(labels[part], part), side).numpy()

        for part, small in in_pieces(apart, np.arange(len(labels)), work):
            found[part] = small
            done += len(part)
            tell("drawing pictures to compare with the class moments", done, len(labels))
        each = [found[labels == number] for number in range(classes)]
        shape, pixels = base.latent_shape, plain_pixels(base)
        return transport(self.moments, self.noisy, each, shape, side, pixels)
