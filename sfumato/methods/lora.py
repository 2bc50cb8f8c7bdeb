"""DP-LoRA: DP-SGD on low-rank adapters (Tsai et al., arXiv 2406.01355)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..bases import Base, add_lora, lora_inputs, save_lora, save_pipeline
from ..errors import SfumatoError
from .adaptation import ADAPTER_LEARNING_RATE, Adaptation, Prompts, adaptation
from .starting import start_inputs
from .targets import PROJECTIONS, matching_modules


def lora(
    base: Base,
    prompts: Prompts,
    *,
    rank: int = 8,
    alpha: float | None = None,
    target_modules: Sequence[str] = PROJECTIONS,
    freeze_a: bool = False,
    adapter_init: str = "gaussian",
    start: Mapping[str, torch.Tensor] | None = None,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """y = W0 x + (alpha / rank) B A x on the chosen projections; A starts Gaussian, B at zero
    (section 3).

    `alpha` defaults to `rank`. With `freeze_a` only B trains: half the noise dimensions, and the
    model stays linear in what trains. `adapter_init`: how A starts (see `starting.start_inputs`);
    "public" takes `start`, module -> rows. Saves `pytorch_lora_weights.safetensors`; with
    placeholders a pipeline folder as well, since a LoRA file holds no token embeddings.
    """
    targets = matching_modules(base.denoiser, target_modules)
    return low_rank(base, prompts, targets, rank, alpha, freeze_a, adapter_init, start, precision)


def low_rank(
    base: Base,
    prompts: Prompts,
    targets: list[str],
    rank: int,
    alpha: float | None,
    freeze_a: bool,
    adapter_init: str,
    start: Mapping[str, torch.Tensor] | None,
    precision: torch.dtype,
) -> Adaptation:
    """LoRA on exactly `targets` (full names); what DP-LoRA and DP-SAPF share."""
    add_lora(base, targets, rank, rank if alpha is None else alpha)
    inputs = lora_inputs(base)
    if set(inputs) != set(targets):
        raise SfumatoError("the adapters are not on the chosen matrices: please report this")
    start_inputs(inputs, adapter_init, start)
    trainable = {
        name: tensor
        for name, tensor in base.denoiser.named_parameters()
        if ".lora_B." in name or (".lora_A." in name and not freeze_a)
    }

    def save(base: Base, folder) -> None:
        save_lora(base, folder)
        if prompts.placeholders:
            base.denoiser.fuse_lora()
            base.denoiser.unload_lora()
            save_pipeline(base, folder)

    made = adaptation(base, prompts, trainable, targets, save, precision, ADAPTER_LEARNING_RATE)
    return replace(made, rank=rank)
