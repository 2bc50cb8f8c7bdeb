"""Which tensors of a model its losses cannot teach: found on dummy data, by plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_losses
from .reference import fill, gradients

# Of the gradient of all tensors: what is above it is none of rounding's.
SMALL = 1e-5
# A gradient that is rounding's alone is another one beside a record; a true one moves with it.
ANOTHER = 0.25


def unreached(
    trainable: dict[str, nn.Parameter],
    row_losses: Callable[[Any], Tensor],
    records: Iterable[tuple[Any, Any]],
) -> dict[str, str]:
    """Tensors that get no gradient whatever the data are, and why.

    A tensor has none if, for every dummy record and its neighbour,

    - autograd does not reach it (None), or
    - its gradient is zero, or
    - its norm is at most SMALL of the whole gradient's, and over all records together it differs
      from the one of the neighbours, a step of about 2^-12 aside, by more than ANOTHER of itself.

    A key's bias under a softmax is of the third kind: it moves all logits of a query alike, and
    what autograd gives is what rounding leaves of a sum that is zero. The gradient of a tensor that
    matters little is small too, but nearly the same at the neighbour: such a tensor is not named.
    Tensors that are zero (LoRA's B, zero-initialised outputs) are perturbed meanwhile.

    Args:
        trainable: Name -> parameter.
        row_losses: As in `Engine.clipped_sum`, in single precision; differentiated for one record
            at a time.
        records: SYNTHETIC batches of one record, each with its neighbour. Later ones are asked for
            only if something was not reached by the first.

    Returns:
        Name -> "unreached" or "no gradient", in the order of `trainable`.

    Raises:
        ValueError: No tensor gets a gradient; or one is reached by some records and not by others,
            so that what trains would follow from the data.
    """
    open_, met, sides = dict(trainable), {n: set[bool]() for n in trainable}, ([], [])
    whole = 0.0
    with _all_learning(trainable):
        for pair in records:
            for side, record in zip(sides, pair, strict=True):
                grads = _of_one(row_losses, record, open_)
                for name, grad in grads.items():
                    met[name].add(grad is not None)
                if not whole:
                    norms = {n: _norm(g) for n, g in grads.items()}
                    whole = sum(norm**2 for norm in norms.values()) ** 0.5
                    if not whole > 0:
                        raise ValueError("no tensor that was to be trained gets a gradient")
                    open_ = {n: p for n, p in open_.items() if not norms[n] > SMALL * whole}
                if not open_:
                    return {}
                side.append({n: grads[n] for n in open_})
    some = next((name for name in open_ if len(met[name]) > 1), None)
    if some is not None:
        raise ValueError(
            f"{some}: reached by some records and not by others, so that data would decide what"
            " trains"
        )
    here, there = sides
    return {
        name: "unreached" if met[name] == {False} else "no gradient"
        for name in open_
        if _is_none([each[name] for each in here], [each[name] for each in there], whole)
    }


def _is_none(here: list[Tensor | None], there: list[Tensor | None], whole: float) -> bool:
    """Whether the gradients of a tensor, and those of the neighbours, are nothing but rounding."""
    norms = [max(_norm(a), _norm(b)) for a, b in zip(here, there, strict=True)]
    if max(norms) > SMALL * whole:
        return False
    apart = [
        _norm(a - b) for a, b in zip(here, there, strict=True) if a is not None and b is not None
    ]
    size = sum(norm**2 for norm in norms) ** 0.5
    return not size or sum(d**2 for d in apart) ** 0.5 > ANOTHER * size


def _norm(gradient: Tensor | None) -> float:
    if gradient is None:
        return 0.0
    return float(torch.linalg.vector_norm(gradient, dtype=torch.float64))


def _of_one(
    row_losses: Callable[[Any], Tensor], record: Any, tensors: dict[str, nn.Parameter]
) -> dict[str, Tensor | None]:
    with torch.enable_grad():
        losses = check_losses(row_losses(record), 1, 1)
        if not losses.requires_grad:
            return dict.fromkeys(tensors)
        found = gradients(losses.sum(), list(tensors.values()))
    return dict(zip(tensors, found, strict=True))


@contextmanager
def _all_learning(trainable: dict[str, nn.Parameter]) -> Generator[None, None, None]:
    """Inside, all tensors require a gradient, and none is zero; restored to the bit."""
    required = [(p, p.requires_grad) for p in trainable.values()]
    with perturbed(trainable):
        try:
            for p, _ in required:
                p.requires_grad_(True)
            yield
        finally:
            for p, before in required:
                p.requires_grad_(before)


@contextmanager
def perturbed(trainable: dict[str, nn.Parameter]) -> Generator[None, None, None]:
    """Inside, tensors that are all zero hold small numbers instead; restored to the bit."""
    generator = torch.Generator().manual_seed(0)
    zeros = [p for p in trainable.values() if not bool(p.detach().any())]
    saved = [p.detach().clone() for p in zeros]
    try:
        for p in zeros:
            fill(p, torch.randn(p.shape, generator=generator) * 0.05)
        yield
    finally:
        for p, value in zip(zeros, saved, strict=True):
            fill(p, value)
