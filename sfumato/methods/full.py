"""DP-SGD on the whole denoiser (DPDM 2210.09929; public pretraining 2302.13861)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .given import Given
from .warm_up.method import Warmed

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class Full(Warmed):
    """Train every tensor of the denoiser that can learn; autoencoder and text encoder stay frozen.

    The baseline: the best published quality at low resolution, at the price of noise that grows
    with the square root of all its parameters. Saves a pipeline folder.
    """

    name = "full"
    from_nothing = True

    def apply(self, base: Base, given: Given) -> Adaptation:
        """Makes every denoiser parameter trainable, and the rows that a class table has in use."""
        from .adaptation import adaptation, save_whole

        return adaptation(
            base, given, base.learnable(), ["all"], save_whole, self.learning_rate, whole=True
        )
