"""Where each trainable tensor lies between steps: buffers for per-record gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import rules
from .cost import Ratios
from .owners import Layer


class Layout:
    """What does not change between steps: names, groups, and the grow-only buffers.

    Vectors (biases, normalisation weights, broadcast parameters) share one matrix [B, width] of
    per-record gradients, so that they cost one norm and one product together.
    """

    def __init__(
        self,
        trainable: dict[str, nn.Parameter],
        layers: list[Layer],
        tables: Sequence[str],
        groups: Sequence[Sequence[str]] | None,
        ratios: Ratios,
    ) -> None:
        self.dtype = (
            torch.float64
            if any(p.dtype == torch.float64 for p in trainable.values())
            else torch.float32
        )
        self.device = next(iter(trainable.values())).device
        self.shapes = {name: p.shape for name, p in trainable.items()}
        self.grouped = groups is not None
        self.group = {
            name: i for i, names in enumerate(groups or [list(trainable)]) for name in names
        }
        self.groups = len(groups or [()])
        vectors = (
            {x.bias for x in layers}
            | {x.weight for x in layers if isinstance(x.module, rules.NORMS)}
            | set(tables)
        )
        self.span: dict[str, slice] = {}
        end = 0
        for name in sorted((n for n in trainable if n in vectors), key=lambda n: self.group[n]):
            self.span[name] = slice(end, end + trainable[name].numel())
            end += trainable[name].numel()
        self.width = end
        # how each layer's norms are computed, by draws: decided from the shapes of the first step,
        # then kept
        self.ways: dict[int, dict[Layer, str]] = {}
        self.ratios = ratios
        self._buffers: dict[str, Tensor] = {}

    def vector_blocks(self) -> list[tuple[slice, int]]:
        """The vectors' columns, one slice for every group that owns some."""
        blocks: dict[int, slice] = {}
        for name, span in self.span.items():
            group = self.group[name]
            blocks[group] = slice(blocks[group].start if group in blocks else span.start, span.stop)
        return [(span, group) for group, span in blocks.items()]

    def buffer(self, name: str, *shape: int) -> Tensor:
        """Returns an uninitialised tensor [shape] in a persistent block.

        Allocating large tensors anew costs more than the arithmetic.
        """
        size = 1
        for extent in shape:
            size *= extent
        held = self._buffers.get(name)
        if held is None or held.numel() < size:
            held = self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return held[:size].view(shape)
