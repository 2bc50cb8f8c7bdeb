"""DP-LDM: DP-SGD on whole attention modules (Liu, Lyu, Vinaroz, Park, arXiv 2305.15759)."""

from __future__ import annotations

import torch

from ..bases import Base, save_pipeline
from .adaptation import Adaptation, Prompts, adaptation
from .targets import attention_blocks, block_range


def attention(
    base: Base,
    prompts: Prompts,
    *,
    blocks: str | None = None,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """Train whole attention blocks: norms, projections, self- and cross-attention, feed-forward
    (section 3).

    `blocks` is a 1-based range in the order down, mid, up (the paper trains "9-" of 16 on ImageNet
    bases). With placeholders the conditioning embedder trains under the same clip. Saves a pipeline
    folder.
    """
    chosen = block_range(attention_blocks(base.denoiser), blocks)
    trainable = {
        name: tensor
        for name, tensor in base.denoiser.named_parameters()
        if any(name.startswith(block + ".") for block in chosen)
    }
    return adaptation(base, prompts, trainable, chosen, save_pipeline, precision)
