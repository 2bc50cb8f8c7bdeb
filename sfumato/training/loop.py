"""The one DP loop: who is in the step, one clipped gradient per unit, one noise, one update."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from ..compute import ranks
from ..compute.device import on_host
from ..compute.shares import is_shared
from ..errors import Interrupted, SfumatoError
from ..gradients import Engine, ReferenceEngine
from ..options import Performance, Recipe
from ..privacy.plan import Plan
from ..privacy.random.keys import RunKey
from ..privacy.random.noise import add_integer_noise
from ..privacy.random.sampling import poisson
from .checkpoint import State
from .data import LatentData, UnitBatch, by_size
from .objective import Trainable
from .prefetch import fetched


@dataclass(frozen=True)
class Progress:
    """Everything that may be shown about a finished step.

    No loss, no norm, no batch size (privacy.md would call them private aggregates). `rate` is
    expected images per second, `remaining` seconds.
    """

    step: int
    steps: int
    learning_rate: float
    rate: float
    remaining: float


def train(
    plan: Plan,
    adaptation: Trainable,
    data: LatentData,
    key: RunKey,
    *,
    attempt: int,
    recipe: Recipe,
    performance: Performance,
    state: State,
    on_step: Callable[[Progress, State], bool],
    ways: Mapping[str, str] | None = None,
) -> bool:
    """DP-SGD with K noise draws per unit averaged before one clip.

    Abadi et al., arXiv 1607.00133; DPDM, arXiv 2210.09929. Advances `state` to plan.steps. Every
    step runs: an empty draw still gets its noise and its update. What leaves a step is a function
    of integers: the sum in units of the plan's grid, and integer noise.

    Args:
        plan: The privacy parameters.
        adaptation: Base, trainable tensors and row losses.
        data: The private latents.
        key: The run key.
        attempt: The attempt, which is part of every random number's address.
        recipe: What the paper's authors tune: learning rate, times, averaging.
        performance: Options that change nothing but time and memory.
        state: Where training stands; its `average` then holds the averaged weights.
        on_step: Called after each logical step; training stops early, at a step boundary, when it
            returns False.
        ways: Weight -> how its norms are computed, as the run keeps it; None chooses by shapes.

    Returns:
        Whether all steps were done.

    Raises:
        SfumatoError: A plan without a grid, or for other tensors than these.
    """
    clip, groups = plan.clip(), None
    where = next(iter(adaptation.trainable.values())).device
    require_grid(plan)
    assert plan.rounding is not None and recipe.ema_decay is not None
    if sum(p.numel() for p in adaptation.trainable.values()) > plan.trainable:
        raise SfumatoError(
            "more numbers would train than the plan's grid was made for: make the plan again"
        )
    if clip.bounds:
        groups = list(adaptation.clip_groups.values())
        if len(groups) != len(clip.bounds):
            raise SfumatoError(
                f"the plan shares its clip norm among {len(clip.bounds)} groups, but {len(groups)}"
                " train: adapt into a new folder"
            )
    lockstep = any(is_shared(p) for p in adaptation.model.parameters())
    shares = state.shares
    part = {"starts": shares.starts()} if shares else {}
    optimizer = state.optimizer
    started, first = time.monotonic(), state.step
    one_pass = performance.engine == "one-pass"
    with open_engine(adaptation, groups, ways, one_pass=one_pass) as engine:
        while state.step < plan.steps:
            units = poisson(key, state.step, attempt, plan.n_units, plan.sampling_rate)
            units = units[ranks.rank() :: ranks.world_size()]
            batch = UnitBatch(
                data,
                units,
                key,
                state.step,
                attempt,
                plan.noise_draws,
                recipe.time_bias,
                recipe.caption_dropout,
                adaptation.base.times,
            )
            if lockstep:  # ranks that gather weights together make equally many passes
                batch = replace(batch, blanks=ranks.largest(len(units)) - len(units))
            sums, _ = engine.clipped_sum(
                adaptation.row_losses,
                fetched(by_size(batch), where, performance.micro_batch),
                draws=plan.noise_draws,
                clip=clip.factors,
                micro_batch=performance.micro_batch,
                rounding=plan.rounding,
            )
            sums = shares.add_up(sums)
            # Every rank adds the same noise to the same sum, so the replicas stay equal. Up to here
            # all are integers.
            noisy = add_integer_noise(
                sums,
                key,
                state.step,
                attempt,
                multiplier=plan.noise_multiplier,
                bound=plan.rounding.bound,
                **part,
            )

            rate = recipe.rate_at(state.step, plan.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            # Adam sees gradients in units of the clip norm: its own epsilon must not set the step
            # size.
            scale = plan.rounding.step / (plan.expected_batch_size * clip.sensitivity)
            for name, parameter in state.trainable.items():
                parameter.grad = (noisy[name].double() * scale).to(parameter.dtype)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.step += 1
            state.update_average(recipe.ema_decay)
            if state.step == 1:
                _require_movement(state)
            if state.step % 25 == 0 and not ranks.same_on_all_ranks(_digest(state)):
                raise Interrupted(
                    "the ranks' weights differ: this attempt ends; resume from the last checkpoint"
                )

            seconds = time.monotonic() - started
            done = state.step - first
            progress = Progress(
                state.step,
                plan.steps,
                rate,
                done * plan.expected_batch_size * plan.noise_draws / seconds,
                seconds / done * (plan.steps - state.step),
            )
            if not on_step(progress, state):
                return state.step == plan.steps
    return True


def open_engine(
    adaptation: Trainable,
    groups: list[list[str]] | None,
    ways: Mapping[str, str] | None,
    *,
    one_pass: bool = True,
) -> Engine | ReferenceEngine:
    """The engine that makes an adaptation's sums.

    Args:
        adaptation: Model and trainable tensors.
        groups: Names that share a clip.
        ways: As for `train`.
        one_pass: Otherwise the reference engine, one record at a time.

    Returns:
        It, open.
    """
    model, trainable = adaptation.model, adaptation.trainable
    if not one_pass:
        return ReferenceEngine(model, trainable, groups=groups)
    return Engine(model, trainable, strategy=ways or "auto", groups=groups)


def require_grid(plan: Plan) -> None:
    """Refuses a plan from before sums were integers: such runs can be used, but not trained.

    Raises:
        SfumatoError: The plan has no grid.
    """
    if plan.rounding is None:
        raise SfumatoError(
            "this run was planned before sums were made of integers, and does not train on: adapt"
            " into a new folder (what it has learned so far can still be synthesized, exported and"
            " verified)"
        )


def _require_movement(state: State) -> None:
    still = [
        name
        for name, p in state.trainable.items()
        if p.numel() and torch.equal(p.detach(), state.start[name])  # a rank may have no row of it
    ]
    if still:
        raise SfumatoError(
            f"{still[0]} did not move in the first step: the budget would be spent for nothing"
        )
    state.start = {}


def _digest(state: State) -> str:
    """Of the tensors of which every rank keeps all."""
    digest = hashlib.sha256()
    for tensor in state.shares.replicas().values():
        digest.update(on_host(tensor, torch.float32).numpy().tobytes())
    return digest.hexdigest()
