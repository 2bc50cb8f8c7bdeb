"""Squared gradient norm of every weight for every record: what a probe ranks.

No clipping and no noise happen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import rules
from .arguments import check_counts, check_losses, check_precision
from .owners import Layer, find_layers

ROOM = 2**24  # numbers of per-record gradients held at once


def gradient_squares(
    model: nn.Module,
    weights: dict[str, nn.Parameter],
    row_losses: Callable[[Any], Tensor],
    batch: Any,
    *,
    draws: int = 1,
    micro_batch: int | None = None,
) -> Iterator[Tensor]:
    """||dl_i / dW_m||^2 with l_i the mean of record i's `draws` row losses, by microbatches.

    The draws are averaged before the norm. A row whose loss is not finite is NaN, as is a square
    that is not finite; a record changes no row but its own. The squares are PRIVATE.

    Autograd computes the gradients at the layers' outputs only; weight gradients are formed a few
    records at a time (ROOM numbers), so memory does not grow with records x weights.

    Args:
        model: The module that the row losses call.
        weights: Name -> weight of a Linear or Conv2d of `model`, in the order of the M columns.
        row_losses: As in `Engine.clipped_sum`.
        batch: As in `Engine.clipped_sum`.
        draws: Rows of each record.
        micro_batch: As in `Engine.clipped_sum`.

    Yields:
        fp64 [b, M], one microbatch after the other.

    Raises:
        ValueError: A layer without an exact rule; the message names the module.
        RuntimeError: The losses do not reach a weight.
    """
    check_counts(draws, micro_batch)
    owners, tables = find_layers(model, weights)
    if tables:
        raise ValueError(
            f"{tables[0].name}: scores exist for the weights of Linear and Conv2d only"
        )
    layers = {layer.weight: layer for layer in owners}
    for layer in layers.values():
        if layer.bias is not None or not isinstance(layer.module, (nn.Linear, nn.Conv2d)):
            raise ValueError(
                f"{layer.path}: scores exist for the weights of Linear and Conv2d only"
            )
    size = len(batch)
    for start in range(0, size, micro_batch or max(size, 1)):
        part = batch[start : min(start + (micro_batch or size), size)]
        yield _squares([layers[name] for name in weights], weights, row_losses, part, draws)


def _squares(
    layers: list[Layer],
    weights: Mapping[str, nn.Parameter],
    row_losses: Callable[[Any], Tensor],
    part: Any,
    draws: int,
) -> Tensor:
    records = len(part)
    met: dict[Layer, list[tuple[Tensor, Tensor, int]]] = {layer: [] for layer in layers}

    def keep(layer: Layer) -> Callable[..., None]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor
        ) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            if x.shape[0] not in (records, records * draws):
                raise ValueError(
                    f"{layer.path}: {x.shape[0]} rows for {records} records with {draws} draws"
                )
            met[layer].append((x.detach(), out, out._version))

        return hook

    hooks = [
        layer.module.register_forward_hook(keep(layer), prepend=True, with_kwargs=True)
        for layer in layers
    ]
    before = {name: p.requires_grad for name, p in weights.items()}
    try:
        for p in weights.values():
            # puts the outputs into the graph; its own gradient is never asked for
            p.requires_grad_(True)
        with torch.enable_grad():
            losses = check_losses(row_losses(part), records, draws)
            check_precision(losses)
            # Checkpointing calls layers again in the backward pass; these calls are no further
            # ones.
            calls = {layer: tuple(met[layer]) for layer in layers}
            outs = [out for layer in layers for _, out, _ in calls[layer]]
            if any(out._version != version for layer in layers for _, out, version in calls[layer]):
                raise RuntimeError(
                    "a layer's output was changed in place: its gradient has no exact rule"
                )
            missed = [layer.path for layer in layers if not calls[layer]]
            if missed:
                raise RuntimeError(
                    f"{missed[0]}: not called by the losses ({len(missed)} such layers)"
                )
            grads = iter(torch.autograd.grad(losses.sum() / draws, outs, allow_unused=True))
    finally:
        for hook in hooks:
            hook.remove()
        for name, p in weights.items():
            p.requires_grad_(before[name])
    with torch.no_grad():
        found = torch.stack(
            [_layer_squares(layer, calls[layer], grads, records) for layer in layers], 1
        )
        lost = ~torch.isfinite(losses).view(records, draws).all(1)
        return found.masked_fill(lost[:, None] | ~torch.isfinite(found), torch.nan)


def _layer_squares(
    layer: Layer, calls: Sequence[tuple[Tensor, Tensor, int]], grads: Iterator[Any], records: int
) -> Tensor:
    """Returns squared norms [B] of one weight's per-record gradient, all calls of the layer added.

    Raises:
        RuntimeError: The layer's output does not reach the losses.
    """
    pairs = [(x, next(grads)) for x, *_ in calls]
    if any(g is None for _, g in pairs):
        raise RuntimeError(f"{layer.path}: its output does not reach the losses")
    wide = torch.float64 if layer.module.weight.dtype == torch.float64 else torch.float32
    square: list[Tensor] = []
    room = max(1, ROOM // layer.module.weight.numel())
    for start in range(0, records, room):
        some = slice(start, min(start + room, records))
        total: Any = 0
        for x, g in pairs:
            rows = slice(some.start * x.shape[0] // records, some.stop * x.shape[0] // records)
            own_x, own_g, own = x[rows].to(wide), g[rows].to(wide), some.stop - some.start
            if rules.is_product(layer.module):
                inputs = rules.columns(layer.module, own_x, own)
                outputs = rules.output_columns(layer.module, own_g, own)
                total = total + torch.bmm(outputs.transpose(1, 2), inputs)
            else:
                made = own_x.new_empty(
                    own, len(layer.module.weight), layer.module.weight[0].numel()
                )
                rules.keep_weight(layer.module, own_x, own_g, made, first=True)
                total = total + made
        square.append(
            torch.linalg.vector_norm(total.flatten(1), dim=1, dtype=torch.float64).square()
        )
    return torch.cat(square)
