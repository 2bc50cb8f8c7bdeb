"""DP-SGD on token embeddings alone: the baseline of DPAgg-TI (arXiv 2411.14639).

Through the ordinary loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SfumatoError
from .given import Given
from .trained import Trained

if TYPE_CHECKING:
    from ..bases import Base
    from .adaptation import Adaptation


@dataclass(frozen=True)
class Embedding(Trained):
    """Train one shared token vector per class and nothing else, by DP-SGD.

    Saves `learned_embeds.safetensors`, one token for each class, as `inversion` does.
    """

    name = "embedding"
    learns_tokens = True
    trains_captions = False
    hands_over = "token"
    less_noise = "use fewer classes"

    def apply(self, base: Base, given: Given) -> Adaptation:
        """Makes the class tokens' embeddings trainable."""
        from .adaptation import adaptation, save_tokens

        if not given.prompts.placeholders:
            raise SfumatoError(
                "--method embedding trains a token in place of {class}: leave --no-embedder out"
            )

        def save(base: Base, folder: Path) -> None:
            save_tokens(base, folder, given.prompts)

        return adaptation(base, given, {}, [], save, self.learning_rate)
