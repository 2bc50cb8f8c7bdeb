"""DP-LoRA: DP-SGD on low-rank adapters (Tsai et al., arXiv 2406.01355)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..bases import Base, add_lora, save_lora, save_pipeline
from .adaptation import Adaptation, Prompts, adaptation
from .targets import PROJECTIONS, matching_modules


def lora(
    base: Base,
    prompts: Prompts,
    *,
    rank: int = 8,
    alpha: float | None = None,
    target_modules: Sequence[str] = PROJECTIONS,
    freeze_a: bool = False,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """y = W0 x + (alpha / rank) B A x on the chosen projections; A starts Gaussian, B at zero (section 3).

    `alpha` defaults to `rank`. With `freeze_a` only B trains: half the noise dimensions, and the model stays linear
    in what trains. Saves `pytorch_lora_weights.safetensors`; with placeholders a pipeline folder as
    well, since a LoRA file holds no token embeddings.
    """
    targets = matching_modules(base.unet, target_modules)
    add_lora(base, targets, rank, rank if alpha is None else alpha)
    trainable = {
        name: tensor
        for name, tensor in base.unet.named_parameters()
        if ".lora_B." in name or (".lora_A." in name and not freeze_a)
    }

    def save(base: Base, folder) -> None:
        save_lora(base, folder)
        if prompts.placeholders:
            base.unet.fuse_lora()
            base.unet.unload_lora()
            save_pipeline(base, folder)

    return adaptation(base, prompts, trainable, targets, save, precision)
