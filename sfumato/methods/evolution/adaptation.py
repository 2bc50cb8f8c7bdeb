"""What an evolution makes of a base: nothing trains, and a population is what it hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...bases import save_population
from ..adaptation import Adapted
from .spaces import Space


@dataclass(frozen=True, kw_only=True)
class Evolving(Adapted):
    """The base with the class tokens at their public start, and how rounds go.

    Attributes:
        space: In which images find their nearest candidates.
        threshold: Standard deviations of the noise below which votes count as none.
        strengths: Share of the sampler's steps by which the first and the last round vary.
        classes: How many.
        save_words: `save_words(folder)` writes the class tokens, at their public start.
    """

    space: Space
    threshold: float
    strengths: tuple[float, float]
    classes: int
    save_words: Callable[[Path], None]

    def strength(self, step: int, steps: int) -> float:
        """How much of the sampler's steps round `step` of `steps` varies by."""
        first, last = self.strengths
        return first + (last - first) * step / max(1, steps - 1)

    def with_population(self, latents: torch.Tensor, classes: int) -> Evolving:
        """The same, whose `save` writes these latents [m, C, h, w], class by class."""
        by_class = latents.reshape(classes, -1, *latents.shape[1:])

        def save(folder: Path) -> None:
            self.save_words(folder)
            save_population(folder, by_class, self.strengths[1])

        return replace(self, save=save)
