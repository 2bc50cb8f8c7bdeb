"""One step of the real loop, seen from the optimiser's side.

And what it should have been, one unit at a time by plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..compute.device import on_host
from ..privacy.random.keys import RunKey
from ..training import LatentData, State, UnitBatch, train
from .subject import Subject


@dataclass
class Seen:
    """What a stretch of the loop did.

    Attributes:
        released: Per step, name -> what the optimiser was given, in units of the sum (times B),
            fp64.
        trace: What happened in which order.
        steps: Counted at the end.
        moved: Names of changed tensors.
    """

    released: list[dict[str, Tensor]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    steps: int = 0
    moved: set[str] = field(default_factory=set)
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def vectors(self) -> list[Tensor]:
        """`released` as one vector for each step."""
        return [vector(sums) for sums in self.released]


def vector(sums: dict[str, Tensor]) -> Tensor:
    """All tensors as one vector, fp64."""
    return torch.cat([t.detach().flatten().double() for t in sums.values()])


def watch(
    subject: Subject,
    data: LatentData,
    key: RunKey,
    *,
    step: int = 0,
    steps: int = 1,
    attempt: int = 0,
    on_optimiser: Callable[[], None] = lambda: None,
) -> Seen:
    """Runs `steps` logical steps of `training.train` from `step` on, and restores the model.

    Nothing of the loop is replaced: a hook of the optimiser reads the gradients that it is about to
    apply, after noise and division, and multiplies them by the plan's B and sensitivity; then it
    calls `on_optimiser`.
    """
    plan, adaptation = subject.plan, subject.adaptation
    held = {**dict(adaptation.model.named_parameters()), **dict(adaptation.model.named_buffers())}
    before = {name: value.detach().clone() for name, value in held.items()}
    state, seen = (
        State(adaptation.trainable, adaptation.learning_rate_factor, subject.recipe),
        Seen(),
    )
    state.step, unit = step, plan.expected_batch_size * plan.clip_norm

    def at_optimiser(*_: object) -> None:
        seen.trace.append("optimiser")
        grads = {name: p.grad for name, p in adaptation.trainable.items()}
        seen.released.append(
            {
                name: on_host(grad, torch.float64) * unit
                for name, grad in grads.items()
                if grad is not None
            }
        )
        on_optimiser()

    def on_step(progress, now: State) -> bool:
        seen.trace.append(
            f"step {progress.step} of {progress.steps}, rate {progress.learning_rate:.6g}"
        )
        return now.step < step + steps

    state.optimizer.register_step_pre_hook(at_optimiser)
    try:
        train(
            plan,
            adaptation,
            data,
            key,
            attempt=attempt,
            recipe=subject.recipe,
            performance=subject.performance,
            state=state,
            on_step=on_step,
        )
        seen.steps, seen.state = state.step - step, state.tensors()
        seen.moved = {
            name for name, value in held.items() if not torch.equal(value.detach(), before[name])
        }
    finally:
        with torch.no_grad():
            for name, value in held.items():
                value.copy_(before[name])
    return seen


def released(
    subject: Subject, data: LatentData, key: RunKey, *, step: int = 0, attempt: int = 0
) -> Tensor:
    """What one step gives the optimiser, as one vector in units of the sum."""
    return watch(subject, data, key, step=step, attempt=attempt).vectors[0]


def own_gradient(
    subject: Subject, data: LatentData, key: RunKey, unit: int, *, step: int = 0, attempt: int = 0
) -> dict:
    """The gradient of one unit's loss, its draws averaged; name -> fp64.

    By `torch.autograd.grad` on that unit alone.
    """
    plan, adaptation, recipe = subject.plan, subject.adaptation, subject.recipe
    batch = UnitBatch(
        data,
        np.array([unit]),
        key,
        step,
        attempt,
        plan.noise_draws,
        recipe.time_bias,
        recipe.caption_dropout,
        adaptation.base.times,
    )
    required = {name: p.requires_grad for name, p in adaptation.trainable.items()}
    try:
        for p in adaptation.trainable.values():
            p.requires_grad_(True)
        with torch.enable_grad():
            loss = adaptation.row_losses(batch[0:1]).mean()
            grads = torch.autograd.grad(
                loss, list(adaptation.trainable.values()), allow_unused=True
            )
    finally:
        for name, p in adaptation.trainable.items():
            p.requires_grad_(required[name])
    named = zip(adaptation.trainable.items(), grads, strict=True)
    return {
        name: on_host(torch.zeros_like(p) if g is None else g, torch.float64)
        for (name, p), g in named
    }


def ideal(subject: Subject, gradient: dict[str, Tensor]) -> Tensor:
    """What the plan allows a unit with this gradient to add.

    By the definitions of the papers and not by the package's own.
    """
    plan = subject.plan
    if not all(bool(torch.isfinite(t).all()) for t in gradient.values()):
        return torch.zeros_like(vector(gradient))
    bound, scaled = plan.clip_norm / len(subject.groups) ** 0.5, {}
    for names in subject.groups:
        norm = float(vector({n: gradient[n] for n in names}).norm())
        factor = min(1.0, bound / norm) if plan.gamma is None and norm > 0 else 1.0
        if plan.gamma is not None:
            factor = bound / (norm + plan.gamma)
        scaled |= {n: gradient[n] * factor for n in names}
    return vector({n: scaled[n] for n in gradient})
