"""DP-LoRA: DP-SGD on low-rank adapters (Tsai et al., arXiv 2406.01355)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .given import Given
from .low_rank import LowRank
from .warm_up.method import Warmed

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class Lora(LowRank, Warmed):
    """LoRA: y = W0 x + (alpha / rank) B A x on the chosen projections (section 3).

    With `freeze_a` only B trains: half the noise dimensions, and the model stays linear in what
    trains. Saves `pytorch_lora_weights.safetensors`, and class tokens beside it as
    `learned_embeds.safetensors`.
    """

    name = "lora"

    def apply(self, base: Base, given: Given) -> Adaptation:
        """Adds trainable LoRA matrices to the chosen projections."""
        from .targets import matching_modules

        return self.adapters(base, given, matching_modules(base, self.target_modules))
