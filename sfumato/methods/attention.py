"""DP-LDM: DP-SGD on whole attention modules (Liu, Lyu, Vinaroz, Park, arXiv 2305.15759)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..options import option
from .given import Given
from .warm_up.method import Warmed

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class Attention(Warmed):
    """Trains whole attention blocks (section 3).

    Norms, projections, self- and cross-attention, feed-forward. Blocks are counted in the order
    down, mid, up (the paper trains "9-" of 16 on ImageNet bases). With placeholders the
    conditioning embedder trains under the same clip. Saves a pipeline folder.
    """

    name = "attention"

    blocks: str | None = option(
        None, "Range of attention blocks, from 1 (default: all).", metavar="9-"
    )

    def apply(self, base: Base, given: Given) -> Adaptation:
        """Makes the chosen attention blocks trainable."""
        from .adaptation import adaptation, save_whole
        from .targets import block_range

        chosen = block_range(base.blocks(), self.blocks)
        trainable = {
            name: tensor
            for name, tensor in base.learnable().items()
            if any(name.startswith(block + ".") for block in chosen)
        }
        return adaptation(base, given, trainable, chosen, save_whole, self.learning_rate)
