"""DP-LoDA: DP-SGD on low-dimensional branches beside convolutions and linears (Liu et al., arXiv
2406.05257).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..bases import Base, add_loda, branches, remove_loda, save_loda, save_pipeline
from .adaptation import ADAPTER_LEARNING_RATE, Adaptation, Prompts, adaptation
from .starting import start_inputs
from .targets import matching_modules


def loda(
    base: Base,
    prompts: Prompts,
    *,
    rank: int = 4,
    alpha: float | None = None,
    target_modules: Sequence[str] = ("conv1", "conv2"),
    activation: str = "identity",
    freeze_a: bool = False,
    adapter_init: str = "gaussian",
    start: Mapping[str, torch.Tensor] | None = None,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """y = W0 x + (alpha / rank) U g(D x), D with the host's kernel, stride and padding, U at zero.

    `alpha` defaults to `rank`. activation: g, "identity" (mergeable, saved as an ordinary LoRA
    file) or "silu", "tanh", "gelu" (saved as `loda_weights.safetensors`, which stays a branch).
    `freeze_a`: D, which holds most of the numbers, stays. The paper published no code: the form is
    ours, after its description as a non-linear kin of LoRA.
    """
    targets = matching_modules(base.denoiser, target_modules)
    add_loda(base, targets, rank, (rank if alpha is None else alpha) / rank, activation)
    found = branches(base.denoiser)
    start_inputs({name: branch.down.weight for name, branch in found.items()}, adapter_init, start)
    trainable = {f"{name}.up.weight": branch.up.weight for name, branch in found.items()}
    if not freeze_a:
        trainable |= {f"{name}.down.weight": branch.down.weight for name, branch in found.items()}

    def save(base: Base, folder) -> None:
        save_loda(base, folder)
        if prompts.placeholders:
            for branch in branches(base.denoiser).values():
                if activation == "identity":
                    branch.merge()
            remove_loda(base)
            save_pipeline(base, folder)

    made = adaptation(base, prompts, trainable, targets, save, precision, ADAPTER_LEARNING_RATE)
    return replace(made, rank=rank)
