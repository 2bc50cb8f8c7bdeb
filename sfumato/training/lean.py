"""Frozen weights in the format in which they are multiplied: half the memory, the same products.

Under mixed precision every frozen matrix is made bfloat16 anew in every pass, and kept in float32
beside it. Here it is bfloat16 while a run trains, and its float32 numbers wait in host memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import torch
from torch import nn

from ..compute.device import on_host, to_device
from ..compute.stored import Stored

MULTIPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextlib.contextmanager
def lean(
    model: nn.Module, trainable: Collection[nn.Parameter], dtype: torch.dtype
) -> Iterator[None]:
    """Inside, weights and biases that only products read are in `dtype`; afterwards as before.

    Only what mixed precision would convert to the same numbers anyway: layers of products without
    a tensor that trains. Norms and tables stay as they are.

    Args:
        model: The denoiser.
        trainable: The tensors that train.
        dtype: Of the products; nothing happens for float32.
    """
    kept: list[tuple[nn.Parameter, torch.Tensor]] = []
    if dtype != torch.float32:
        kept = [(p, on_host(p)) for p in _frozen(model, trainable)]
    with torch.no_grad():
        for parameter, _ in kept:
            parameter.data = parameter.detach().to(dtype)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in kept:
                parameter.data = to_device(before, parameter.device)


def _frozen(model: nn.Module, trainable: Collection[nn.Parameter]) -> list[nn.Parameter]:
    """Parameters of layers of products in which nothing trains, each once."""
    training = {id(p) for p in trainable}
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if type(module) not in MULTIPLIED:  # a subclass may do something else with its weight
            continue
        own = [p for p in module.parameters(recurse=False) if p.dtype == torch.float32]
        if not any(id(p) in training for p in own):
            # what is kept as it is stored takes half the memory already
            found |= {id(p): p for p in own if not isinstance(p, Stored)}
    return list(found.values())
