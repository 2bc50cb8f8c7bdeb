"""The constants of the cost model, measured on this machine with the engine itself.

On one layer and random records, so nothing of a user's data is timed.
"""

from __future__ import annotations

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
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Grid:
    """As a run's, whose sums are whole numbers: rounding costs the kept gradients a pass."""

    slack: float = 1e-3
    step: float = 1e-6
    bound: int = 2**20


def measure_ratios(where: torch.device, clock: Callable[[], float]) -> Ratios:
    """Where a kept gradient and a pair of Gram matrices take the same time.

    Under two seconds of a core.

    Args:
        where: The device that is measured.
        clock: Seconds of work on it so far; it waits for what the device still does.

    Returns:
        The constants; the usual ones where this machine gives no sensible answer.
    """
    how = where, clock
    linears = [_linear(shape, *how) for shape in LINEARS]
    convs = [_conv(shape, *how) for shape in CONVS]
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


def _linear(shape: Shape, where: torch.device, clock: Callable[[], float]) -> Point:
    layers, records, width, tokens = shape
    stack = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    x = torch.randn(records, tokens, width, generator=torch.Generator().manual_seed(0))
    return 2 * tokens**2 * width, width**2, *_times(stack.to(where), x.to(where), clock)


def _conv(shape: Shape, where: torch.device, clock: Callable[[], float]) -> Point:
    layers, records, channels, side = shape
    kernels = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(layers))
    of_x = (records, channels, side, side)
    x = torch.randn(of_x, generator=torch.Generator().manual_seed(0))
    n = side**2
    gram = n**2 * (2 * channels + 9)
    stack = nn.Sequential(*kernels).to(where)
    return gram, 9 * channels * (channels + n), *_times(stack, x.to(where), clock)


def _times(stack: nn.Sequential, x: Tensor, clock: Callable[[], float]) -> tuple[float, float]:
    """Times one record of one layer by Gram matrices and by kept gradients.

    Returns:
        Seconds of the first less the second, and their sum.
    """
    works = {way: _sum(stack, x, way) for way in ("ghost", "keep")}
    best = dict.fromkeys(works, float("inf"))
    for _ in range(TURNS):
        for way, work in works.items():
            started = clock()
            work()
            best[way] = min(best[way], clock() - started)
    ghost, keep = (best[way] / (len(x) * len(stack)) for way in ("ghost", "keep"))
    return ghost - keep, ghost + keep


def _sum(stack: nn.Sequential, x: Tensor, way: str) -> Callable[[], object]:
    def losses(part: Tensor) -> Tensor:
        return stack(part).flatten(1).square().mean(1)

    def work() -> None:
        with Engine(stack, dict(stack.named_parameters()), strategy=way) as engine:
            engine.clipped_sum(losses, x, clip=torch.ones_like, rounding=_Grid())

    return work
