"""DP-SGD on the whole denoiser (DPDM 2210.09929; public pretraining 2302.13861)."""

from __future__ import annotations

import torch

from ..bases import Base, save_pipeline
from .adaptation import Adaptation, Prompts, adaptation


def full(base: Base, prompts: Prompts, *, precision: torch.dtype = torch.bfloat16) -> Adaptation:
    """Train every tensor of the denoiser; autoencoder and text encoder stay frozen.

    The baseline: the best published quality at low resolution, at the price of noise that grows
    with the square root of all its parameters. Saves a pipeline folder.
    """
    return adaptation(
        base, prompts, dict(base.denoiser.named_parameters()), ["all"], save_pipeline, precision
    )
