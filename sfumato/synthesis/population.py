"""Pictures of a population: its members as they are, and beyond their number variations of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..bases import Base
from ..compute.device import to_device
from ..options import Sampling
from .sampler import Sampler, in_pieces


@dataclass(frozen=True)
class Population:
    """Draws a data set from a public population, as `sampler.pictures` does from weights.

    Attributes:
        latents: float32 [classes, P, C, h, w], in host memory.
        strength: Share of the sampler's steps by which further images vary a member.
    """

    latents: torch.Tensor
    strength: float

    def __call__(
        self,
        base: Base,
        prompts: Sequence[str],
        labels: np.ndarray,
        indices: np.ndarray,
        sampling: Sampling,
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Yields (image numbers, uint8 images [P, R, R, 3]) piece by piece.

        The k-th image of a class is its k-th member; from P on, a variation of member k mod P by
        partial noising and denoising, with the seed of its own number.

        Args:
            base: The public base, with the class tokens of the run.
            prompts: One per class.
            labels: Class of every image number, int64.
            indices: Numbers of the images to draw.
            sampling: Sampler, steps and public seed of the variations.
        """
        sampler, size = Sampler(base, prompts, sampling), self.latents.shape[1]
        place = places(labels)

        def work(part: np.ndarray) -> np.ndarray:
            mark, again = labels[part], place[part] >= size
            found = self.latents[torch.from_numpy(mark), torch.from_numpy(place[part] % size)]
            found = to_device(found, base.device)
            if again.any():
                more = torch.from_numpy(again)
                made = sampler.latents(mark[again], part[again], found[more], self.strength)
                found[more] = made.to(found.dtype)
            return base.decode(found)

        return in_pieces(sampler, indices, work)


def places(labels: np.ndarray) -> np.ndarray:
    """For every image number, how many before it have its class: int64 [n]."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], labels[order])
    found = np.empty(len(labels), np.int64)
    found[order] = np.arange(len(labels)) - first
    return found
