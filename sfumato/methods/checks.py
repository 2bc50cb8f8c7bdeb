"""What the proof of DP-SGD's sums assumes of a base and a machine, checked before the charge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..compute.device import on_host
from ..errors import MachineError, ModelError
from ..gradients import self_check
from ..privacy.random.on_device import check_device
from ..training import Batch, open_engine
from ..training.dummy import dummy_batch
from .adaptation import Adaptation
from .interface import Prepared
from .pace import clip_and_groups
from .prompts import Prompts
from .reach import of_a_token
from .room import measuring

# Records that a machine is asked about where the run's passes are shorter.
FEWEST = 3


def check_gradients(
    prepared: Prepared[Adaptation],
    on_stage: Callable[[str], None],
    further: Callable[[Prepared[Any]], None] = lambda prepared: None,
) -> None:
    """Checks the engine against one-at-a-time autograd on dummy data, before the charge.

    Args:
        prepared: With the microbatch that will run.
        on_stage: Takes a line for every stage.
        further: Further checks of this machine; each raises RuntimeError or ValueError.

    Raises:
        ModelError: The base cannot be adapted by the method on this machine.
        MachineError: The device makes other noise than the host.
    """
    adaptation = prepared.adaptation
    on_stage("checking the gradients on dummy images")
    try:
        check_device(next(iter(adaptation.trainable.values())).device)
    except ValueError as error:
        raise MachineError(str(error)) from error
    try:
        with measuring():
            dead: list[str] = []
            for size in prepared.base.sizes:
                with prepared.base.seeing(size):
                    dead += _check_at_size(prepared, further)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"this base cannot be adapted by this method: {error}") from error
    if dead:
        raise ModelError(
            f"{dead[0]} never gets a gradient ({len(dead)} such): noise would be all that it learns"
        )


def _check_at_size(
    prepared: Prepared[Adaptation], further: Callable[[Prepared[Any]], None]
) -> list[str]:
    """The checks at one size of the base; names of tensors that never get a gradient."""
    adaptation, grouped = prepared.adaptation, prepared.plan.clip_groups is not None
    dead = self_check(
        adaptation.model,
        adaptation.trainable,
        adaptation.exact_losses,
        of_a_token(dummy_batch(prepared, 3), Prompts.of(prepared.options["prompts"])),
        prepared.plan.noise_draws,
        groups=list(adaptation.clip_groups.values()) if grouped else None,
        most=prepared.performance.micro_batch,
    )
    check_neighbours(prepared)
    further(prepared)
    return dead


def check_neighbours(prepared: Prepared[Adaptation]) -> None:
    """Checks on this machine what the proof of the sums assumes of torch's kernels.

    On dummy records, in microbatches of the run's size: a zero slot in place of the first, the
    middle or the last record must leave every other record's gradient norm as it is, bit by bit,
    and move the integer sum by its bound at most. The middle one alone has the longest prompt.
    RuntimeError if it does not.
    """
    plan, adaptation = prepared.plan, prepared.adaptation
    clip, groups = clip_and_groups(prepared)
    assert plan.rounding is not None  # plans of today have a grid
    one_pass = prepared.performance.engine == "one-pass"
    units = max(FEWEST, prepared.performance.micro_batch or 0) if one_pass else FEWEST
    alone = one_pass and prepared.performance.micro_batch == 1
    batch = longest_in_the_middle(dummy_batch(prepared, units), plan.prompts)
    settings: dict[str, Any] = {
        "draws": plan.noise_draws,
        "clip": clip.factors,
        "micro_batch": 1 if alone else None,
    }
    ways = prepared.options.get("ways")
    with open_engine(adaptation, groups, ways, one_pass=one_pass) as engine:

        def total(some: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            sums, norms = engine.clipped_sum(
                adaptation.row_losses, some, rounding=plan.rounding, **settings
            )
            return torch.cat([value.flatten() for value in sums.values()]), norms

        whole, norms = total(batch)
        for unit in sorted({0, units // 2, units - 1}):
            others = torch.arange(units) != unit
            less, left = total(without(batch, unit))
            if not torch.equal(on_host(norms)[others], on_host(left)[others]):
                raise RuntimeError(
                    "taking one record out changes the gradients of others on this machine, so no"
                    " clip bounds them: try one thread (OMP_NUM_THREADS=1), --micro-batch-size 1 or"
                    " --engine reference"
                )
            if float((whole - less).double().norm()) > plan.rounding.bound:
                raise RuntimeError(
                    "one record moves the sum by more than its bound on this machine"
                )


def without(batch: Batch, unit: int) -> Batch:
    """The batch with a zero slot in place of a unit, as where its image cannot be used."""
    mean, label, weight = batch.mean.clone(), batch.label.clone(), batch.weight.clone()
    mean[unit], label[unit], weight[unit] = 0, -1, 0
    return replace(batch, mean=mean, label=label, weight=weight)


def longest_in_the_middle(batch: Batch, prompts: Sequence[str]) -> Batch:
    """The batch with the longest prompt in the middle and the shortest everywhere else."""
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    label = torch.full_like(batch.label, by_length[0])
    label[len(label) // 2] = by_length[-1]
    return replace(batch, label=label)
