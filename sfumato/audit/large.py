"""M8: one unit among many thousand. There a sum that is not exact would move by more than one unit has to give (arXiv 2207.10635)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..gradients import Engine
from ..training import Batch, UnitBatch
from .finding import Finding, Notes
from .subject import Subject, key_of, latents

UNITS, MICRO, CLIP = 65_536, 4_096, 1e-3
OTHERS = 64  # every so many are not the same unit again
GONE = (1, 3 * OTHERS)  # one of the many, and one of huge gradient


def integer_sums(subject: Subject, seed: int, way: str, gone: tuple[int, ...] = GONE, units: int = UNITS) -> Finding:
    """M8: the integers of the sum over `units` units and of that without one differ by C (1 + rho) in L2 norm at most.

    Both sums are computed whole by the engine, `way` naming how, as the loop asks for them; their distance is taken in whole numbers.
    Most units are duplicates of one, so that the sum grows with their number; every 64th is another, of a gradient that is usual,
    tiny, huge or no number. All are clipped.
    """
    notes, now = Notes(), subject.with_plan(n_units=units, expected_batch_size=float(units), clip_norm=CLIP)
    plan, batch, adaptation = now.plan, many(now, seed, units), now.adaptation
    groups = now.groups if plan.clip().bounds else None
    ask = {"clip": plan.clip().factors, "micro_batch": MICRO, "rounding": plan.rounding, "draws": plan.noise_draws}
    with Engine(adaptation.model, adaptation.trainable, strategy=way, groups=groups) as engine:

        def total(unit: int | None = None) -> list[int]:
            weight = batch.weight.clone()
            if unit is not None:
                weight[unit] = 0
            sums, _ = engine.clipped_sum(adaptation.row_losses, replace(batch, weight=weight), **ask)
            whole = all(value.dtype == torch.int64 for value in sums.values())
            notes.expect(whole, "sums that are no integers")
            return [int(number) for value in sums.values() for number in value.flatten().tolist()]

        everyone = total()
        for unit in gone:
            square = sum((a - b) ** 2 for a, b in zip(everyone, total(unit), strict=True))
            share = square**0.5 / plan.rounding.bound
            notes.numbers += 1
            notes.expect(square <= plan.rounding.bound**2, f"unit {unit} of {units:,} moves the sum by {share:.6g} of its bound")
            notes.expect(unit % OTHERS == 0 or share > 0.9, f"unit {unit} of {units:,} adds {share:.3g} of its bound only")
    return notes.finding("M8", f"{subject.name}, {way}", sees=f"one of {units:,} units that adds more than C (1 + rho)")


def many(subject: Subject, seed: int, units: int) -> Batch:
    """One unit over and over, and every 64th another: usual, tiny, usual, huge, not finite and so on in turn."""
    kinds = 8
    data, recipe = latents(subject, kinds + 1, seed), subject.recipe
    key, draws = key_of(seed, subject.name), subject.plan.noise_draws
    made = UnitBatch(data, np.arange(kinds + 1), key, 0, 0, draws, recipe.time_bias, recipe.caption_dropout)[0 : kinds + 1]
    noise = made.noise.clone()
    for unit, scale in ((2, 1e-6), (4, 1e6), (5, 1e12), (6, float("nan")), (7, float("inf"))):
        noise[unit] *= scale
    place = torch.arange(units)
    which = torch.where(place % OTHERS == 0, 1 + place // OTHERS % kinds, 0)
    return replace(made, noise=noise)[which]
