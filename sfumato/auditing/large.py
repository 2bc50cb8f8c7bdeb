"""M8: one unit among many thousand.

There a sum that is not exact would move by more than one unit has to give (arXiv 2207.10635).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..gradients import Engine
from ..training import Batch, UnitBatch
from .finding import Finding, Notes
from .subject import Subject, key_of, latents

UNITS, MICRO, CLIP = 65_536, 4_096, 1e-3
OTHERS = 64  # every so many are not the same unit again
GONE = (1, 131 * OTHERS)  # one of the many, and one of huge gradient in another microbatch


def integer_sums(
    subject: Subject, seed: int, way: str, gone: tuple[int, ...] = GONE, units: int = UNITS
) -> Finding:
    """M8: integer sums with and without one unit differ by C (1 + rho) in L2 norm at most.

    All sums are computed whole by the engine, `way` naming how, as the loop asks for them;
    distances are taken in whole numbers. And a unit moves the sum over all by exactly what it moves
    that of its own microbatch alone by: nothing is lost beside a large total. Most units are
    duplicates of one, so that the sum grows with their number; every 64th is another, of a gradient
    that is usual, tiny, huge or NaN.
    """
    notes, now = (
        Notes(),
        subject.with_plan(n_units=units, expected_batch_size=float(units), clip_norm=CLIP),
    )
    plan, batch, adaptation = now.plan, many(now, seed, units), now.adaptation
    groups = now.groups if plan.clip().bounds else None
    ask: dict[str, Any] = {
        "clip": plan.clip().factors,
        "micro_batch": MICRO,
        "rounding": plan.rounding,
        "draws": plan.noise_draws,
    }
    assert plan.rounding is not None  # as all that are made today
    bound = plan.rounding.bound
    with Engine(adaptation.model, adaptation.trainable, strategy=way, groups=groups) as engine:

        def total(of: Batch, unit: int | None = None) -> list[int]:
            weight = of.weight.clone()
            if unit is not None:
                weight[unit] = 0
            sums, _ = engine.clipped_sum(adaptation.row_losses, replace(of, weight=weight), **ask)
            notes.expect(
                all(value.dtype == torch.int64 for value in sums.values()),
                "sums that are no integers",
            )
            return [int(number) for value in sums.values() for number in value.flatten().tolist()]

        def difference(first: list[int], second: list[int]) -> list[int]:
            return [a - b for a, b in zip(first, second, strict=True)]

        everyone = total(batch)
        for unit in gone:
            moved, first = difference(everyone, total(batch, unit)), unit - unit % MICRO
            own = batch[first : first + MICRO]
            square = sum(number**2 for number in moved)
            share, here = square**0.5 / bound, f"unit {unit} of {units:,}"
            notes.numbers += 1
            notes.expect(
                square <= bound**2,
                f"{here} moves the sum by {share:.6g} of its bound",
            )
            notes.expect(
                moved == difference(total(own), total(own, unit - first)),
                f"{here} adds what other microbatches decide",
            )
            notes.expect(share > 0.9, f"{here} adds {share:.3g} of its bound only")
    return notes.finding(
        "M8",
        f"{subject.name}, {way}",
        sees=f"one of {units:,} units that adds more than C (1 + rho)",
    )


def many(subject: Subject, seed: int, units: int) -> Batch:
    """One unit over and over, and every 64th another.

    Usual, tiny, usual, huge, not finite and so on in turn.
    """
    kinds = 8
    data, recipe = latents(subject, kinds + 1, seed), subject.recipe
    key, draws = key_of(seed, subject.name), subject.plan.noise_draws
    made = UnitBatch(
        data,
        np.arange(kinds + 1),
        key,
        0,
        0,
        draws,
        recipe.time_bias,
        recipe.caption_dropout,
        subject.adaptation.base.times,
    )[0 : kinds + 1]
    noise = made.noise.clone()
    for unit, scale in ((2, 1e-6), (4, 1e6), (5, 1e12), (6, float("nan")), (7, float("inf"))):
        noise[unit] *= scale
    place = torch.arange(units)
    which = torch.where(place % OTHERS == 0, 1 + place // OTHERS % kinds, 0)
    return replace(made, noise=noise)[which]
