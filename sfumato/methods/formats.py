"""The number format of each stage of a run, by timing a few dummy rows of the run's own base.

Decided once, before anything is charged, and kept in the run's options: a resume takes what stands
there, whatever the machine would say by then. Shapes and the machine decide, never a private image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..bases import Base
from ..bases.conditioning import Conditioning, each, repeat, tensors
from ..compute import ranks
from ..compute.device import device
from ..compute.measure import Trial, compare, measures
from ..compute.precision import PRECISIONS, STAGES, Formats, precision, quick_precision
from .interface import Prepared
from .prompts import Prompts

Pass = Callable[[], object]


def asked_formats(asked: str) -> Formats:
    """One format everywhere as it was asked for; float32 until `auto` has been decided."""
    return Formats() if asked == "auto" else Formats.everywhere(asked)


def kept_formats(options: Mapping[str, Any]) -> Formats:
    """The formats of a run, from its options.

    Runs from before they were chosen by stage encoded and drew in bfloat16, and learnt in the one
    that was asked for. Without a choice, float32.
    """
    if kept := options.get("formats"):
        return Formats.named(kept)
    asked = options["performance"]["precision"]
    if asked == "auto":
        return Formats()
    return Formats.named(dict.fromkeys(STAGES, "bfloat16") | {"train": asked, "invert": asked})


def choose_formats(prepared: Prepared[Any], compared: bool = False) -> Prepared[Any]:
    """The same with the format of every stage decided, and set on its base.

    Args:
        prepared: A plan's base and method; one whose options hold formats keeps them.
        compared: Time both formats of each stage, whatever was asked for (`Prepared.trials`).

    Returns:
        The same, with `formats` in its options.
    """
    asked, chosen = prepared.performance.precision, prepared.options.get("formats")
    open_choice = chosen is None and asked == "auto"
    trials = prepared.trials
    if open_choice and measures() and prepared.base.device != device():
        # ranks will share it, and no device may hold it whole to time it
        quick = ranks.on_first_rank(lambda: quick_formats(prepared.method.stages))
        open_choice, chosen = False, Formats().names | quick
    elif not trials and (open_choice or compared) and measures():
        stages = prepared.method.stages
        trials = ranks.on_first_rank(lambda: _trials(prepared, stages))
    if chosen is None and not open_choice:
        chosen = asked_formats(asked).names
    if chosen is None:
        quick = {stage: trial.quicker for stage, trial in trials.items()}
        chosen = Formats().names | quick
    prepared.base.formats = Formats.named(chosen)
    return replace(prepared, options=prepared.options | {"formats": chosen}, trials=trials)


def quick_formats(stages: Sequence[str]) -> dict[str, str]:
    """Stage -> the format that the device in use has instructions for."""
    quick = quick_precision(torch.empty(0, device=device()))
    name = next(word for word, dtype in PRECISIONS.items() if dtype == quick)
    return dict.fromkeys(stages, name)


def choose_for_base(base: Base, prompts: Sequence[str], asked: str, *stages: str) -> None:
    """Sets the formats of a base that has no plan yet, for work on public images.

    Args:
        base: The base.
        prompts: Public.
        asked: "auto", or the format of all stages.
        stages: Those that are timed.
    """
    if asked != "auto":
        base.formats = Formats.everywhere(asked)
    elif measures():
        trials = ranks.on_first_rank(lambda: {s: _of_base(base, prompts, s) for s in stages})
        base.formats = Formats.named({stage: trial.quicker for stage, trial in trials.items()})


def _trials(prepared: Prepared[Any], stages: Sequence[str]) -> dict[str, Trial]:
    # a token of an inversion is in no tokenizer yet
    base, prompts = prepared.base, Prompts.of(prepared.options["prompts"]).started
    return {
        stage: _of_training(prepared) if stage == "train" else _of_base(base, prompts, stage)
        for stage in stages
    }


def _of_training(prepared: Prepared[Any]) -> Trial:
    return _in_both(prepared.base, "train", lambda rows: prepared.method.one_pass(prepared, rows))


def _of_base(base: Base, prompts: Sequence[str], stage: str) -> Trial:
    works = {"encode": _encode, "invert": _invert, "sample": _sample, "decode": _decode}
    return _in_both(base, stage, lambda rows: works[stage](base, prompts, rows))


def _in_both(base: Base, stage: str, make: Callable[[int], Pass]) -> Trial:
    before = base.formats

    def made(name: str, rows: int) -> Pass:
        formats = replace(before, **{stage: precision(name)})
        base.formats = formats
        work = make(rows)

        def run() -> None:
            base.formats = formats
            work()

        return run

    try:
        return compare(made)
    finally:
        base.formats = before


def _encode(base: Base, prompts: Sequence[str], rows: int) -> Pass:
    side = base.resolution
    images = np.random.default_rng(0).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    return lambda: base.encode(images)


def _decode(base: Base, prompts: Sequence[str], rows: int) -> Pass:
    latents, _, _ = _rows(base, prompts, rows)
    return lambda: base.decode(latents)


def _sample(base: Base, prompts: Sequence[str], rows: int) -> Pass:
    latents, time, condition = _rows(base, prompts, rows)
    denoise, memory = base.make_denoise(), {}
    return lambda: denoise(latents, time[0], condition, memory)


def _invert(base: Base, prompts: Sequence[str], rows: int) -> Pass:
    """Gradient of the loss with respect to the condition, as an inversion takes it."""
    from ..training import Batch, denoising_losses

    latents, time, condition = _rows(base, prompts, rows)
    leaf = each(condition, _leaf)
    leaves = [part for part in tensors(leaf).values() if part.requires_grad]
    losses = denoising_losses(base, lambda label: leaf, "invert")
    column = latents[:, None]
    batch = Batch(
        mean=column,
        std=torch.zeros_like(column),
        label=torch.zeros(rows, 1, dtype=torch.int64),
        latent_noise=torch.zeros_like(column),
        noise=torch.ones_like(column),
        time=time[:, None],
        drop=torch.zeros(rows, 1, dtype=torch.bool),
        weight=torch.ones(rows, 1),
    )
    return lambda: torch.autograd.grad(losses(batch).sum(), leaves, allow_unused=True)


def _leaf(part: torch.Tensor) -> torch.Tensor:
    return part.detach().clone().requires_grad_(part.is_floating_point())


def _rows(
    base: Base, prompts: Sequence[str], rows: int
) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """Latents [rows, C, h, w], times [rows] and conditions [rows, ...]."""
    g = torch.Generator().manual_seed(0)
    latents = torch.randn((rows, *base.latent_shape), generator=g)
    with torch.no_grad():
        one = base.condition(list(prompts)[:1])
    time = torch.full((rows,), base.times // 2, dtype=torch.int64)
    return latents, time, each(repeat(one, rows), torch.clone)
