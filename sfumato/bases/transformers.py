"""How diffusers names the layers of a transformer: blocks, layers, and sets of layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from torch import nn

# Lists of blocks, in the order in which a denoiser runs them.
LISTS = (
    "noise_refiner",
    "context_refiner",
    "transformer_blocks",
    "single_transformer_blocks",
    "layers",
    "blocks",
)
_BLOCK = re.compile(rf"({'|'.join(LISTS)})\.\d+(?=\.|$)")
_ATTENTION = re.compile(r"\.(\w*attn\d*|\w*attention)(\.|$)")
_MODULATION = re.compile(r"\.(\w*norm\w*|\w*modulation|ada\w*|(\w+_)?mod)(\.|$)")


def transformer_blocks(denoiser: nn.Module) -> list[str]:
    """Full names of the blocks, list by list as `LISTS` has them, each by number."""
    found = [name for name, _ in denoiser.named_modules() if _BLOCK.fullmatch(name)]

    def order(name: str) -> tuple[int, int]:
        kind, number = name.split(".")
        return LISTS.index(kind), int(number)

    return sorted(found, key=order)


def set_of(name: str) -> str | None:
    """The set that a layer of a block belongs to; None outside of the blocks.

    "attention": queries, keys, values and outputs, also those of a second stream of text;
    "modulation": what turns times and pooled texts into scales and shifts of the norms;
    "feed-forward": all else (a block that computes both side by side joins them in one layer,
    which counts to where it stands).
    """
    block = _BLOCK.match(name)
    if not block:
        return None
    inner = name[block.end() :]
    if _ATTENTION.search(inner):
        return "attention"
    return "modulation" if _MODULATION.search(inner) else "feed-forward"


class TransformerNames:
    """What `Base` asks of names, for families whose denoiser is one of diffusers' transformers.

    DP-LDM's whole attention module (arXiv 2305.15759), in a U-Net a transformer block with its
    projections, is here a transformer block: attention of all streams, feed-forward, norms and
    their modulation.
    """

    denoiser: nn.Module

    def unused(self) -> Collection[str]:
        """Full names of modules that no output depends on, though the denoiser computes them."""
        return ()

    def learnable(self) -> dict[str, nn.Parameter]:
        """All denoiser parameters but those of `unused`, and keys' biases under a plain softmax."""
        # A bias of keys adds the same to all of a query's scores, and the softmax takes it out,
        # unless keys are normalised first.
        held = dict(self.denoiser.named_parameters())
        idle = tuple(f"{name}." for name in self.unused())
        return {
            name: tensor
            for name, tensor in held.items()
            if not name.startswith(idle or "?")
            and not (
                name.endswith("to_k.bias")
                and name.replace("to_k.bias", "norm_k.weight") not in held
            )
        }

    def blocks(self) -> list[str]:
        """Transformer blocks, in the order of the denoiser."""
        return transformer_blocks(self.denoiser)

    @property
    def targets(self) -> Mapping[str, Sequence[str]]:
        """Set -> full names of its layers.

        "attention", "feed-forward" and "modulation" as `set_of` has them; "residual": all three,
        as there are no residual blocks of convolutions; "convolutions": those of the whole
        denoiser that are not grouped.
        """
        found: dict[str, list[str]] = {}
        idle = set(self.unused())
        for name, module in self.denoiser.named_modules():
            convolution = isinstance(module, nn.Conv2d) and module.groups == 1
            if name in idle or not (convolution or isinstance(module, nn.Linear)):
                continue
            if convolution:
                found.setdefault("convolutions", []).append(name)
            if kind := set_of(name):
                found.setdefault(kind, []).append(name)
                found.setdefault("residual", []).append(name)
        return found

    def layer_of(self, matrix: str) -> str:
        """The attention, feed-forward or modulation of a matrix; else its block."""
        block = _BLOCK.match(matrix)
        if not block:
            return matrix.rpartition(".")[0] or matrix
        inner = matrix[block.end() + 1 :].split(".")
        return f"{block[0]}.{inner[0]}" if len(inner) > 1 else block[0]

    def block_of(self, matrix: str) -> str:
        """The transformer block of a matrix."""
        block = _BLOCK.match(matrix)
        return block[0] if block else matrix.rpartition(".")[0] or matrix
