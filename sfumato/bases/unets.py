"""How diffusers names the layers of a U-Net: attention blocks, layers, and sets of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ModelError
from .interface import TRIAL

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
# Of a set, the layers that a denoiser has are meant.
TARGETS = {
    "attention": PROJECTIONS,
    "feed-forward": ("ff.net.0.proj", "ff.net.2"),
    "residual": ("conv1", "conv2"),
    "convolutions": ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
}


def attention_blocks(denoiser: nn.Module) -> list[str]:
    """Full names of the attention blocks in the order down, mid, up, by number."""
    found = [n for n, _ in denoiser.named_modules() if re.search(r"(^|\.)attentions\.\d+$", n)]
    place = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}

    def order(name: str) -> tuple:
        parts = name.split(".")
        return (place[parts[0]], [int(p) for p in parts if p.isdigit()])

    return sorted(found, key=order)


class UNetNames:
    """What `Base` asks of names, for families whose denoiser is one of diffusers' U-Nets."""

    denoiser: nn.Module

    def learnable(self) -> dict[str, nn.Parameter]:
        """All denoiser parameters but keys' biases, whose gradient is structurally zero."""
        # A bias of keys adds the same to all of a query's scores, and the softmax takes it out.
        named = self.denoiser.named_parameters()
        return {name: tensor for name, tensor in named if not name.endswith("to_k.bias")}

    @property
    def trial_shape(self) -> tuple[int, int, int]:
        """The latents' shape, halved as long as it is large: a U-Net takes any size."""
        base: Any = self  # a `Base`, too
        channels, *sides = base.latent_shape
        while max(sides) > TRIAL and all(side % 2 == 0 for side in sides):
            sides = [side // 2 for side in sides]
        return channels, sides[0], sides[1]

    def blocks(self) -> list[str]:
        """Attention blocks in the order down, mid, up."""
        return attention_blocks(self.denoiser)

    @property
    def targets(self) -> Mapping[str, Sequence[str]]:
        """Sets of layers of a U-Net by the endings of their names."""
        return TARGETS

    def layer_of(self, matrix: str) -> str:
        """The attention, feed-forward or residual layer of a matrix."""
        return re.sub(r"\.(to_out\.0|net\.0\.proj|net\.2|[^.]+)$", "", matrix)

    def block_of(self, matrix: str) -> str:
        """The attention, residual or sampling block of a matrix."""
        block = re.match(r".*?\b(attentions|resnets|downsamplers|upsamplers)\.\d+", matrix)
        return block[0] if block else matrix.rpartition(".")[0] or matrix


def check_unet(folder: Path, unet: dict, added: str | None = None) -> None:
    """Refuses U-Nets that are told more than this family says, or that give more than it reads.

    Args:
        folder: Of the pipeline.
        unet: The U-Net's settings.
        added: The `addition_embed_type` that the family answers.

    Raises:
        ModelError: Naming what it is.
    """
    channels, gives = unet.get("in_channels", 4), unet.get("out_channels", 4)
    kind = unet.get("addition_embed_type")
    if kind != added:
        what = f"a denoiser with added conditions ({str(kind)[:40]})"
        if added:
            what = f"a denoiser without added conditions of the kind {added}"
    elif unet.get("class_embed_type") or unet.get("num_class_embeds"):
        what = "a denoiser with class labels beside prompts (unCLIP, upscalers)"
    elif str(unet.get("attention_type", "default")) != "default":
        what = "a denoiser that reads boxes beside prompts (GLIGEN)"
    elif unet.get("encoder_hid_dim_type") or unet.get("encoder_hid_dim"):
        what = "a denoiser with a projection of its own before its prompts"
    elif gives != channels and gives == 2 * channels:
        what = "a denoiser that learnt its variance too"
    else:
        return
    raise ModelError(f"{folder} has {what}, which its pipeline class does not know: fetch it again")
