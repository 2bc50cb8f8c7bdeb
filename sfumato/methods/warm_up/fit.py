"""The warm-up of a run: release the class moments once, then train on what they show."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from ...compute import ranks
from ...errors import Interrupted, SfumatoError
from ...options.progress import Counted
from ...privacy.ledger.notes import MomentsMade
from ...privacy.mechanisms.moments import Moments
from ...training import Batch, State, write_file
from ..adaptation import Adaptation
from ..interface import Prepared
from ..workspace import Workspace
from .pictures import Pictures, pictures_of, plain_pixels
from .release import Small, release

FILE = "moments.safetensors"
BATCH = 64  # pictures of a step
RATE = 0.375  # of the method's own learning rate, which is for gradients with noise on them
LOST = (
    "the noisy class moments of the run are gone: put moments.safetensors of its folder back, or"
    " adapt into a new folder (a second release of them is not paid for)"
)


def warm_up(prepared: Prepared[Adaptation], workspace: Workspace, side: int, steps: int) -> None:
    """Trains on pictures of the noisy class moments, and keeps the result as the checkpoint 0.

    Everything after the release is a function of its noisy numbers and the public seed.

    Args:
        prepared: The run; what trains is changed in place.
        workspace: The attempt.
        side: Of the small pictures.
        steps: Plain steps.
    """
    moments = prepared.plan.moments
    assert moments is not None  # else there is nothing to warm up with
    noisy = ranks.on_first_rank(lambda: _released(prepared, workspace, side))
    base = prepared.base
    pictures = pictures_of(moments, noisy, base.latent_shape, side, plain_pixels(base))
    with workspace.stoppable() as stop:
        train_on(prepared, pictures, steps, workspace, lambda: ranks.any_rank(stop.asked))
    adaptation = prepared.adaptation
    state = State(adaptation.trainable, adaptation.learning_rate_factor, prepared.recipe)
    tensors = state.tensors()
    ranks.on_first_rank(lambda: workspace.keep(state, tensors))


def _released(prepared: Prepared[Adaptation], workspace: Workspace, side: int) -> list[np.ndarray]:
    """The noisy sums: those that were kept, or of this attempt's own noise, noted before kept."""
    moments, place = prepared.plan.moments, workspace.folder / FILE
    assert moments is not None
    if workspace.moments is not None:
        kept = kept_sums(place, moments, workspace.moments)
        if kept is not None:
            return kept
    if workspace.moments is not None and workspace.attempt > 0:
        raise SfumatoError(LOST)
    data = workspace.data
    owned = [data.order[a:b] for a, b in zip(data.first, data.first[1:])]

    def tell(round_: int, units: int) -> None:
        at = round_ * len(owned) + units
        workspace.on_stage(Counted("adding up class moments", at, moments.rounds * len(owned)))

    pictures = Small(data.mean, side)
    noisy = release(moments, pictures, data.label, owned, workspace.key, workspace.attempt, tell)
    blob = safetensors.numpy.save({f"round{i}": sums for i, sums in enumerate(noisy)})
    digest = hashlib.sha256(blob).hexdigest()
    if workspace.moments is None:
        workspace.note(MomentsMade(moments=digest, attempt=workspace.attempt))
    elif workspace.moments != digest:
        raise SfumatoError(LOST)
    write_file(place, blob)
    return noisy


def kept_sums(place: Path, moments: Moments, digest: str) -> list[np.ndarray] | None:
    """The noisy sums of a run from its file; None where that is gone or another than was noted."""
    if not place.is_file() or hashlib.sha256(blob := place.read_bytes()).hexdigest() != digest:
        return None
    kept = safetensors.numpy.load(blob)
    return [kept[f"round{number}"] for number in range(moments.rounds)]


def train_on(
    prepared: Prepared[Adaptation],
    pictures: Pictures,
    steps: int,
    workspace: Workspace,
    stops: Callable[[], bool] = lambda: False,
) -> None:
    """Plain steps of Adam on pictures drawn anew for each, with a rate that falls along a cosine.

    Every rank makes the same ones. Where `stops` says so, Interrupted: a resume makes them again.
    """
    adaptation, plan = prepared.adaptation, prepared.plan
    draws = torch.Generator().manual_seed(int(prepared.options["seed"]))
    names = list(adaptation.trainable)
    own = [adaptation.trainable[name] for name in names]
    peak = RATE * prepared.method.learning_rate
    most = rows_of_a_pass(prepared)
    groups = [
        {"params": [p], "factor": adaptation.learning_rate_factor.get(n, 1.0)}
        for n, p in zip(names, own)
    ]
    optimizer = torch.optim.Adam(groups, lr=peak, betas=(0.9, 0.99))
    for step in range(steps):
        rise = min(1.0, (step + 1) / max(1.0, 0.05 * steps))
        fall = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak * rise * fall * group["factor"]
        optimizer.zero_grad(set_to_none=True)
        batch = batch_of(prepared, pictures, len(plan.classes), draws)
        for start in range(0, BATCH, most):
            loss = adaptation.row_losses(batch[start : start + most]).sum() / BATCH
            for p, gradient in zip(own, torch.autograd.grad(loss, own, allow_unused=True)):
                if gradient is not None:
                    p.grad = gradient if p.grad is None else p.grad + gradient
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        workspace.on_stage(Counted("warming up on noisy class moments", step + 1, steps))
        if stops():
            raise Interrupted(
                f"stopped at step {step + 1} of {steps} of the warm-up; continue with --resume,"
                " which makes it again from the same noisy class moments"
            )
    optimizer.zero_grad(set_to_none=True)


def rows_of_a_pass(prepared: Prepared[Adaptation]) -> int:
    """How many pictures pass together: no more rows than a pass of training was found to hold."""
    units = prepared.performance.micro_batch or 1
    return min(BATCH, units * prepared.plan.noise_draws)


def batch_of(
    prepared: Prepared[Adaptation], pictures: Pictures, classes: int, draws: torch.Generator
) -> Batch:
    """Pictures of classes drawn evenly, at the times of the recipe."""
    recipe, times = prepared.recipe, prepared.base.times
    label = torch.randint(0, classes, (BATCH, 1), generator=draws)
    latents = pictures.draw(label[:, 0], draws)[:, None]
    uniform = torch.rand((BATCH, 2), generator=draws)
    time = (times * uniform[:, :1] ** (1 / recipe.time_bias)).long().clamp(max=times - 1)
    return Batch(
        mean=latents,
        std=torch.zeros_like(latents),
        label=label,
        latent_noise=torch.zeros_like(latents),
        noise=torch.randn(latents.shape, generator=draws),
        time=time,
        drop=uniform[:, 1:] < recipe.caption_dropout,
        weight=torch.ones(BATCH, 1),
    )
