"""A model of which every rank keeps a share: torch's FSDP2, with sums that are integers.

Each rank computes its own records with all weights, gathered layer by layer, so that the norm of a
record's gradient is complete on its rank. What the ranks share out beside the weights is the sum of
what was clipped: whole numbers, by reduce-scatter, never a gradient. Each rank then adds to its
rows the noise of these rows' own addresses, and moves them with its share of the optimiser.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import MachineError
from . import ranks
from .device import device, to_device
from .stored import unpack

# Of the model's numbers, the most that one gathered part holds, unless a single layer has more: so
# much of the weights exists twice for a moment.
LARGEST = 1 / 16
CONTAINERS = (nn.ModuleList, nn.ModuleDict)


def share(model: nn.Module, whole: Collection[nn.Parameter] = ()) -> None:
    """From here on every rank keeps a share of the model's weights, by rows.

    All ranks call it with the same model. Its forward and backward passes are then collective: all
    ranks must run equally many.

    Args:
        model: Equal on all ranks, on the device or in host memory: part by part it comes onto the
            device, where no more than one part is ever whole.
        whole: Parameters of it of which every rank keeps all, such as adapters.

    Raises:
        MachineError: This torch cannot leave parameters out.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise MachineError("--shard-base needs torch 2.7 or later: upgrade it, or leave it out")
    # a tap's output is a view; nothing here changes one in place
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device().type, (ranks.world_size(),))
    kept = _brought(model, whole)  # `fully_shard` leaves them where they are
    how = {"mesh": mesh, "reshard_after_forward": True, "ignored_params": kept}
    most = LARGEST * sum(p.numel() for p in model.parameters())
    for part in [*parts(model, most), model]:
        unpack(part.parameters())  # shares are cut from ordinary tensors, all of one format
        fully_shard(part, **how)


def _brought(model: nn.Module, whole: Collection[nn.Parameter]) -> set[nn.Parameter]:
    """These parameters of a model, new ones on the device where they were not there."""
    where, known = device(), {id(p): p for p in whole}
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            if id(p) in known and p.device != where:
                moved = nn.Parameter(to_device(p.detach(), where), p.requires_grad)
                known[id(p)] = moved
                setattr(module, name, moved)
    return set(known.values())


def parts(model: nn.Module, most: float) -> Iterator[nn.Module]:
    """Yields the largest modules inside `model` of at most `most` numbers, or single layers.

    Never a mere container, which nobody calls.
    """
    for child in model.children():
        numbers = sum(p.numel() for p in child.parameters())
        called = not isinstance(child, CONTAINERS)
        if numbers and called and (numbers <= most or not list(child.children())):
            yield child
        elif numbers:
            yield from parts(child, most)


def is_shared(tensor: torch.Tensor) -> bool:
    """Whether ranks keep rows of this tensor each."""
    return hasattr(tensor, "placements")


class Shares:
    """Which rows of the trainable tensors this rank keeps; all of a tensor that is not shared."""

    def __init__(self, trainable: Mapping[str, nn.Parameter]) -> None:
        self._all = dict(trainable)
        self._shared: dict[str, Any] = {n: p for n, p in trainable.items() if is_shared(p)}

    def __bool__(self) -> bool:
        """Whether any tensor is shared."""
        return bool(self._shared)

    def own(self) -> dict[str, nn.Parameter]:
        """This rank's rows of every tensor, in the model's own memory."""
        return {
            name: nn.Parameter(self._shared[name].detach().to_local())
            if name in self._shared
            else p
            for name, p in self._all.items()
        }

    def replicas(self) -> dict[str, nn.Parameter]:
        """The tensors of which every rank keeps all."""
        return {name: p for name, p in self._all.items() if name not in self._shared}

    def starts(self) -> dict[str, int]:
        """The number of the first of this rank's numbers, of every shared tensor."""
        return {
            name: min(ranks.rank() * rows_of_a_rank(p), p.shape[0]) * p.shape[1:].numel()
            for name, p in self._shared.items()
        }

    def add_up(self, sums: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The sum over the ranks of integers [shape of the tensor]: this rank's rows of it.

        Every rank must call it once a step.
        """
        replicas = {n: value for n, value in sums.items() if n not in self._shared}
        ranks.sum_over_ranks(replicas)
        return {n: replicas[n] if n in replicas else self._scatter(n, sums[n]) for n in sums}

    def _scatter(self, name: str, value: torch.Tensor) -> torch.Tensor:
        from torch.distributed.tensor import DTensor, Partial

        p = self._shared[name]
        every = DTensor.from_local(value, p.device_mesh, [Partial("sum")], run_check=False)
        return every.redistribute(placements=p.placements).to_local()

    def whole(self, name: str, own: torch.Tensor) -> torch.Tensor:
        """The whole tensor, of which this rank has the rows `own`. Every rank must call it."""
        from torch.distributed.tensor import DTensor

        if name not in self._shared:
            return own
        p = self._shared[name]
        held = DTensor.from_local(
            own, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
        )
        return held.full_tensor()

    def part(self, name: str, whole: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a whole tensor."""
        if name not in self._shared:
            return whole
        rows = rows_of_a_rank(self._shared[name])
        return whole[ranks.rank() * rows : (ranks.rank() + 1) * rows]

    def shape(self, name: str) -> torch.Size:
        """Shape of the whole tensor."""
        return self._all[name].shape


def rows_of_a_rank(tensor: torch.Tensor) -> int:
    """Rows that each rank keeps of a shared tensor; the last ranks keep fewer, or none."""
    return -(-tensor.shape[0] // ranks.world_size())
