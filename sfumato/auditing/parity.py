"""M2: the engine's norms and sums against one-at-a-time autograd, for difficult cases.

Reuse, and tokens that cancel.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn

from ..gradients import Engine
from ..gradients.grams import GRAM_TRUST
from ..training import UnitBatch
from .finding import Finding, Notes
from .subject import Subject, key_of, latents
from .watch import own_gradient, vector

RELATIVE = 1e-4
STRATEGIES = ("auto", "keep", "ghost", "lean")


def norms(
    subject: Subject, seed: int, units: int = 4, strategies: tuple[str, ...] = STRATEGIES
) -> Finding:
    """M2: no norm of a unit is 1e-4 too small, none 1 % too large.

    For every way of computing a norm, K in {1, 3}, and the plan's groups.
    """
    notes, key = Notes(), key_of(seed, subject.name)
    recipe, groups = subject.recipe, subject.groups
    for draws in (1, 3):
        now = subject.with_plan(noise_draws=draws)
        data = latents(now, units, seed)
        times = subject.adaptation.base.times
        batch = UnitBatch(
            data,
            np.arange(units),
            key,
            0,
            0,
            draws,
            recipe.time_bias,
            recipe.caption_dropout,
            times,
        )
        own = [own_gradient(now, data, key, u) for u in range(units)]
        right = torch.stack(
            [
                torch.stack([vector({n: g[n] for n in names}).norm() for names in groups])
                for g in own
            ]
        )
        # Where a group's gradient nearly vanishes beside the whole one, rounding is all there is of
        # it.
        room = RELATIVE * right.maximum(1e-3 * right.norm(dim=1, keepdim=True))
        whole = reduce(torch.add, (vector(g) for g in own))
        for strategy in strategies:
            with Engine(
                now.adaptation.model, now.adaptation.trainable, strategy=strategy, groups=groups
            ) as engine:
                sums, found = engine.clipped_sum(
                    now.adaptation.row_losses, batch, draws=draws, clip=torch.ones_like
                )
            here = f"{strategy}, K={draws}"
            notes.numbers += right.numel()
            # a norm whose gradient is never made is an upper bound, and made exactly where that
            # would be more than GRAM_TRUST off
            most = right * (1 + GRAM_TRUST / 2) + room
            notes.expect(
                found.shape == right.shape
                and bool(((found >= right - room) & (found <= most)).all()),
                f"{here}: norms differ from autograd's",
            )
            apart = float((vector(sums) - whole).norm() / whole.norm())
            notes.expect(
                apart <= RELATIVE, f"{here}: the sum differs from autograd's by {apart:.2g}"
            )
    return notes.finding("M2", subject.name, sees="a norm 1e-4 too small, a sum 1e-4 off")


def cancelling(seed: int) -> Finding:
    """M2 on tokens that are nearly alike, of equal and of opposite gradients: no norm is lost.

    In single and half precision. The gradient is known in closed form. What a unit adds after
    clipping must not exceed the bound; a norm may be over-estimated by a share of what its tokens
    could add up to, never under-estimated.
    """
    notes, g = Notes(), torch.Generator().manual_seed(seed)
    for spread in (1e-2, 1e-3, 1e-4):
        for opposed in (True, False):
            for half in (False, True):
                layer = nn.Linear(24, 16, bias=False)
                x = torch.randn(5, 1, 24, generator=g) + spread * torch.randn(
                    5, 40, 24, generator=g
                )
                y = (
                    torch.randn(5, 40, 16, generator=g)
                    if opposed
                    else torch.randn(5, 1, 16, generator=g).expand(5, 40, 16)
                )
                y = y - y.mean(1, keepdim=True) if opposed else y
                if half:
                    x, y = x.bfloat16().float(), y.bfloat16().float()
                _cancelling(
                    notes,
                    layer,
                    x,
                    y.contiguous(),
                    f"spread {spread:g}" + (", opposed" if opposed else "") + ", half" * half,
                )
    return notes.finding(
        "M2", "correlated tokens", sees="a norm 1e-4 too small, a unit above its bound"
    )


def _cancelling(notes: Notes, layer: nn.Linear, x: Tensor, y: Tensor, what: str) -> None:
    exact = torch.bmm(y.double().transpose(1, 2), x.double()).flatten(1).norm(dim=1)
    tokens = (x.double().norm(dim=2) * y.double().norm(dim=2)).sum(1)

    def losses(i: Tensor) -> Tensor:
        return (layer(x[i]) * y[i]).sum((1, 2))

    for strategy in STRATEGIES:
        with Engine(layer, {"weight": layer.get_parameter("weight")}, strategy=strategy) as engine:
            _, found = engine.clipped_sum(losses, torch.arange(len(x)), clip=torch.ones_like)
            notes.numbers += len(found)
            low = found >= exact * (1 - RELATIVE) - 1e-6 * tokens
            notes.expect(
                bool(low.all()),
                f"{what}, {strategy}: a norm is {float((found / exact).min()):.4g} of the true one",
            )
            notes.expect(
                bool((found <= exact * (1 + RELATIVE) + 1e-2 * tokens).all()),
                f"{what}, {strategy}: a norm is far too large",
            )
            for i in range(len(x)):
                bound = float(exact[i]) / 2

                def clip(norms: Tensor, bound: float = bound) -> Tensor:
                    return (bound / norms).clamp(max=1.0)

                alone, _ = engine.clipped_sum(losses, torch.arange(i, i + 1), clip=clip)
                share = float(vector(alone).norm()) / bound
                notes.expect(
                    share <= 1 + 1e-4, f"{what}, {strategy}: a unit adds {share:.5g} of its bound"
                )
