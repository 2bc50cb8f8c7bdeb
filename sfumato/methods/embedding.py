"""DP-SGD on token embeddings alone: the baseline of DPAgg-TI (arXiv 2411.14639), through the
ordinary loop.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..bases import Base, save_embeds
from ..errors import SfumatoError
from .adaptation import Adaptation, Prompts, adaptation


def embedding(
    base: Base, prompts: Prompts, *, precision: torch.dtype = torch.bfloat16
) -> Adaptation:
    """Train one shared token vector per class and nothing else, by DP-SGD.

    Saves `learned_embeds.safetensors`, one token for each class, as `inversion` does.
    """
    if not prompts.placeholders:
        raise SfumatoError(
            "--method embedding trains a token in place of {class}: leave --no-embedder out"
        )

    def save(base: Base, folder: Path) -> None:
        rows = base.word_vectors
        ids = base.token_ids(prompts.placeholders)
        save_embeds(folder, {word: rows[i][None] for word, i in zip(prompts.placeholders, ids)})

    return adaptation(base, prompts, {}, [], save, precision)
