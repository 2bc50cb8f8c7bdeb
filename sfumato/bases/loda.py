"""LoDA branches beside linear layers and convolutions: in, merged, out again, and on disk.

Liu et al., arXiv 2406.05257.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..compute.device import on_host
from ..compute.stored import unpack
from ..errors import ModelError, SfumatoError
from .adapters import require_adapters, write_layers
from .interface import Base
from .weights import check_weights

LODA_FILE = "loda_weights.safetensors"
ACTIVATIONS = {"identity": lambda x: x, "silu": F.silu, "tanh": torch.tanh, "gelu": F.gelu}


class LoDA(nn.Module):
    """y = host(x) + scale * U g(D x), a low-dimensional branch beside a layer.

    D [rank, d_in] is random with deviation 1 / sqrt(d_in), U [d_out, rank] zero at the start. For a
    convolution D has the host's kernel, stride and padding and U is 1 x 1. g is one of ACTIVATIONS,
    all zero at zero. The host keeps its weight and never trains. Raises ValueError for a host with
    groups, dilation or another padding mode.
    """

    def __init__(
        self,
        host: nn.Linear | nn.Conv2d,
        rank: int,
        scale: float = 1.0,
        activation: str = "identity",
    ):
        super().__init__()
        if isinstance(host, nn.Conv2d):
            if host.groups != 1 or tuple(host.dilation) != (1, 1) or host.padding_mode != "zeros":
                raise ValueError(
                    "a LoDA branch needs a convolution without groups, dilation and special padding"
                )
            shape = {
                "kernel_size": host.kernel_size,
                "stride": host.stride,
                "padding": host.padding,
            }
            self.down = nn.Conv2d(host.in_channels, rank, **shape, bias=False)
            self.up = nn.Conv2d(rank, host.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(host.in_features, rank, bias=False)
            self.up = nn.Linear(rank, host.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=self.down.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.up.weight)
        # drawn in host memory: a seed means the same start on every device
        self.down.to(host.weight.device)
        self.up.to(host.weight.device)
        self.host, self.scale, self.activation, self.merged = host, scale, activation, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The host's output plus the branch's, unless that is merged."""
        y = self.host(x)
        return (
            y
            if self.merged
            else y + self.scale * self.up(ACTIVATIONS[self.activation](self.down(x)))
        )

    def difference(self) -> torch.Tensor:
        """The change of the host's weight that the branch is: scale * sum_j U[o, j] D[j, ...].

        ValueError if g is not linear.
        """
        if self.activation != "identity":
            raise ValueError(
                f"a branch with {self.activation} between D and U is no change of weights: keep it"
                " beside"
            )
        return self.scale * torch.einsum(
            "oj,j...->o...", self.up.weight.flatten(1), self.down.weight
        )

    @torch.no_grad()
    def merge(self) -> None:
        """Add the branch to the host's weight; outputs stay as they were, up to rounding."""
        if not self.merged:
            unpack(self.host.parameters())
            self.host.weight += self.difference()
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the branch out of the host's weight again."""
        if self.merged:
            self.host.weight -= self.difference()
            self.merged = False


def branches(denoiser: nn.Module) -> dict[str, LoDA]:
    """Host name -> branch, in the order of the model."""
    return {name: module for name, module in denoiser.named_modules() if isinstance(module, LoDA)}


def add_loda(base: Base, targets: Sequence[str], rank: int, scale: float, activation: str) -> None:
    """Puts a branch beside each named module of the denoiser.

    ModelError for one that cannot have it.

    Args:
        base: Changed in place.
        targets: Full names.
        rank: Of D and U.
        scale: Of the branch.
        activation: g, one of ACTIVATIONS.
    """
    require_adapters(base)
    if activation not in ACTIVATIONS:
        raise SfumatoError(f"--activation {activation}: choose {', '.join(ACTIVATIONS)}")
    for name in targets:
        host: Any = base.denoiser.get_submodule(name)  # LoDA says what it takes
        try:
            put_module(
                base.denoiser,
                name,
                LoDA(host, rank, scale, activation),
            )
        except ValueError as error:
            raise ModelError(f"{name}: {error}") from error


def save_loda(base: Base, folder: Path) -> None:
    """Writes a LoRA file for any diffusers loader if g is linear, else LODA_FILE.

    The former is `pytorch_lora_weights.safetensors`. LODA_FILE holds `<host>.down.weight` and
    `<host>.up.weight` per branch and, in its header, the JSON text `loda` with rank, scale and
    activation. `load_loda` opens it; docs/methods.md shows how to do so by hand.
    """
    found = branches(base.denoiser)
    first = next(iter(found.values()))
    if first.activation == "identity":
        layers = {}
        for name, branch in found.items():
            layers[f"{name}.lora_A.weight"] = branch.down.weight
            layers[f"{name}.lora_B.weight"] = branch.up.weight
        write_layers(base, folder, layers, first.up.weight.shape[1], first.scale)
        return
    tensors = {}
    for name, branch in found.items():
        tensors[f"{name}.down.weight"] = on_host(branch.down.weight).contiguous()
        tensors[f"{name}.up.weight"] = on_host(branch.up.weight).contiguous()
    facts = {"rank": first.up.weight.shape[1], "scale": first.scale, "activation": first.activation}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / LODA_FILE, metadata={"loda": json.dumps(facts)})


def load_loda(base: Base, folder: Path) -> None:
    """Puts the branches of a LODA_FILE beside their hosts.

    ModelError if the file is damaged or for another base.
    """
    check_weights(folder / LODA_FILE)
    try:
        with safe_open(folder / LODA_FILE, "pt") as file:
            facts = json.loads(file.metadata()["loda"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        targets = sorted(
            {name.removesuffix(".down.weight") for name in tensors if name.endswith(".down.weight")}
        )
        add_loda(base, targets, int(facts["rank"]), float(facts["scale"]), facts["activation"])
        found = branches(base.denoiser)
        if set(tensors) != {f"{name}.{part}.weight" for name in found for part in ("down", "up")}:
            raise ValueError("missing or unknown tensors")
        with torch.no_grad():
            for name, tensor in tensors.items():
                host, part, _ = name.rsplit(".", 2)
                weight = getattr(found[host], part).weight
                if weight.shape != tensor.shape or not torch.isfinite(tensor).all():
                    raise ValueError("shapes of another base, or numbers that are not finite")
                weight.copy_(tensor)
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise ModelError(f"{LODA_FILE} does not fit this base: {error}") from error
    base.denoiser.requires_grad_(False)


def put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule `name` (full name, list entries included)."""
    parent, _, leaf = name.rpartition(".")
    model.get_submodule(parent)._modules[leaf] = module
