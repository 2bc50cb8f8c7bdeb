"""What reading a frozen weight costs that is kept in half precision: JSON lines.

    python benchmarks/stored.py

A Linear of 1280 to 5120 and a 3x3 convolution of 640 channels, frozen, forward and backward to the
input, single thread: kept in float16 and bfloat16 beside single precision, in turns, with products
in float32 and under mixed precision in bfloat16. Ratios are of processor seconds, least of the
rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from measure import machine, prepare_process
from torch import nn

from sfumato.compute.precision import mixed_precision
from sfumato.compute.stored import pack

ROUNDS = 7
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[int, ...]]]] = {
    "linear": (lambda: nn.Linear(1280, 5120), lambda rows: (rows, 1280)),
    "convolution": (
        lambda: nn.Conv2d(640, 640, 3, padding=1),
        lambda rows: (1, 640, round(rows**0.5), round(rows**0.5)),
    ),
}


def passed(layer: nn.Module, x: torch.Tensor, products: torch.dtype) -> float:
    """Processor seconds of a forward and backward pass."""
    start = time.process_time()
    with mixed_precision(products, x):
        y = layer(x)
    torch.autograd.grad(y.float().sum(), x)
    return time.process_time() - start


def kept_in(half: torch.dtype | None, make: Callable[[], nn.Module]) -> nn.Module:
    """A frozen layer whose numbers half precision holds; None keeps them in single."""
    torch.manual_seed(0)
    layer = make().requires_grad_(False)
    for p in layer.parameters():
        p.data = p.to(torch.bfloat16).to(torch.float16).float()
    if half is not None:
        layer.to(half)
        pack(layer)
    return layer


def main() -> None:
    prepare_process(1)
    for name, (make, shape) in LAYERS.items():
        layers = {"float32": kept_in(None, make)}
        layers |= {kept: kept_in(half, make) for kept, half in HALVES.items()}
        for rows in (64, 256, 1024):
            x = torch.randn(shape(rows), requires_grad=True)
            for products in (torch.float32, torch.bfloat16):
                seconds: dict[str, list[float]] = {kept: [] for kept in layers}
                for _ in range(ROUNDS):
                    for kept, layer in layers.items():
                        seconds[kept].append(passed(layer, x, products))
                least = {kept: min(found) for kept, found in seconds.items()}
                ratios = {kept: round(least[kept] / least["float32"], 3) for kept in HALVES}
                line = {"layer": name, "rows": rows, "products": str(products).split(".")[1]}
                print(json.dumps(line | {"ratio": ratios, "seconds": least} | machine("cpu")))


if __name__ == "__main__":
    main()
