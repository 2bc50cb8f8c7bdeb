"""The constants of the cost model, measured on this machine with the engine itself.

On one layer and random records, so nothing of a user's data is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cost import USUAL, Ratios
from .engine import Engine

TURNS = 2
# Layers in a row, so that the kept gradients of all are more than a cache holds, as in a model:
# (layers, records, width, tokens) of Linears, (layers, records, channels, side) of 3x3 kernels.
LINEARS = ((8, 256, 64, 16), (6, 64, 256, 24), (6, 64, 256, 72), (2, 64, 512, 64))
CONVS = ((8, 64, 32, 8), (3, 32, 128, 8), (2, 32, 32, 16))
LEAST, MOST = 0.5, 400.0  # multiply-adds a number, beyond which no machine is
SMALLEST, LARGEST = 2**10, 2**18


# multiply-adds of its Grams, its kept numbers, ghost less keep, both together (seconds a record)
Point = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Grid:
    """As a run's, whose sums are whole numbers: rounding costs the kept gradients a pass."""

    slack: float = 1e-3
    step: float = 1e-6
    bound: int = 2**20


def measure_ratios() -> Ratios:
    """Where a kept gradient and a pair of Gram matrices take the same time.

    Under two seconds of a core.

    Returns:
        The constants; the usual ones where this machine gives no sensible answer.
    """
    linears = [_linear(*shape) for shape in LINEARS]
    convs = [_conv(*shape) for shape in CONVS]
    linear, small = _fitted(linears, USUAL.linear, USUAL.small)
    conv, _ = _fitted(convs, USUAL.conv, USUAL.small)
    return Ratios(linear, conv, small)


def _fitted(points: Sequence[Point], ratio: float, small: int) -> tuple[float, int]:
    """Least squares of ghost's time less keep's = a + b * Gram's multiply-adds - c * kept numbers.

    Each point counts by its own size, so that the small ones do.

    Returns:
        c / b and a / c; `ratio` and `small` where times are not what the model can explain.
    """
    rows = torch.tensor([[1.0, gram, -kept] for gram, kept, _, _ in points], dtype=torch.float64)
    less = torch.tensor([difference for *_, difference, _ in points], dtype=torch.float64)
    weight = 1 / torch.tensor([whole for *_, whole in points], dtype=torch.float64)
    scale = rows.abs().amax(0)
    found = torch.linalg.lstsq(rows / scale * weight[:, None], (less * weight)[:, None]).solution
    a, b, c = (found[:, 0] / scale).tolist()
    if not (b > 0 and c > 0):  # the machine did something else meanwhile
        return ratio, small
    own = min(MOST, max(LEAST, c / b))
    return round(own, 2), int(min(LARGEST, max(SMALLEST, a / c)))


def _linear(layers: int, records: int, width: int, tokens: int) -> Point:
    stack = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    x = torch.randn(records, tokens, width, generator=torch.Generator().manual_seed(0))
    return 2 * tokens**2 * width, width**2, *_times(stack, x)


def _conv(layers: int, records: int, channels: int, side: int) -> Point:
    kernels = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(layers))
    shape = (records, channels, side, side)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    n = side**2
    gram = n**2 * (2 * channels + 9)
    return gram, 9 * channels * (channels + n), *_times(nn.Sequential(*kernels), x)


def _times(stack: nn.Sequential, x: Tensor) -> tuple[float, float]:
    """Times one record of one layer by Gram matrices and by kept gradients.

    In processor time of this process: other work on the machine does not count.

    Returns:
        Seconds of the first less the second, and their sum.
    """
    works = {way: _sum(stack, x, way) for way in ("ghost", "keep")}
    best = dict.fromkeys(works, float("inf"))
    for _ in range(TURNS):
        for way, work in works.items():
            started = time.process_time()
            work()
            best[way] = min(best[way], time.process_time() - started)
    ghost, keep = (best[way] / (len(x) * len(stack)) for way in ("ghost", "keep"))
    return ghost - keep, ghost + keep


def _sum(stack: nn.Sequential, x: Tensor, way: str) -> Callable[[], object]:
    def losses(part: Tensor) -> Tensor:
        return stack(part).flatten(1).square().mean(1)

    def work() -> None:
        with Engine(stack, dict(stack.named_parameters()), strategy=way) as engine:
            engine.clipped_sum(losses, x, clip=torch.ones_like, rounding=_Grid())

    return work
