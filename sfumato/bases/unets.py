"""How diffusers names the layers of a U-Net: attention blocks, layers, and sets of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn

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
