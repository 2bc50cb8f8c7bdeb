"""M1 and M6: paired replay of the real loop on neighbours under one key.

Every difference is then due to one unit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import torch

from ..training import LatentData
from .finding import Finding, Notes
from .subject import Subject, key_of, latents, zeroed
from .watch import ideal, own_gradient, released, vector, watch

BREACH = 1e-5  # relative; what rounding in single precision may add to a unit's bound
# Relative to the bound: the package ends contributions a ten-thousandth inside it, and rounding
# does the rest.
EQUAL = 3e-4
SCALES = (0.0, 1e-2, 30.0, 1e3, 6e4, float("inf"), float("-inf"), float("nan"))
NORMS = (2.0, 1.0, 0.1, 1e-6)  # the clip norm in units of the unit's own gradient norm


def sensitivity(
    subject: Subject, seed: int, units: int = 7, more: int = 0, brief: bool = False
) -> Finding:
    """M1: |S(D) - S(D')| <= C (1 + rho) for neighbours D and D'.

    And S(D) - S(D') is the clipped gradient of the one unit. S is B times what the optimiser is
    given. Adversarial units: gradients of norm 0, C/2, C, 10 C and 1e6 C, Inf and NaN, duplicates,
    the only one with its label, the only one at all, several images each, several draws; and
    Poisson draws with a divisor that is not an integer. `more`: further random neighbours; `brief`:
    fewer of them, for models that take long.
    """
    notes, key = Notes(), key_of(seed, subject.name)
    everyone = subject.with_plan(n_units=units, expected_batch_size=float(units))
    for draws, images in ((1, 1), (3, 2)) if brief else ((1, 1), (4, 1), (3, 3)):
        now = everyone.with_plan(noise_draws=draws)
        data = latents(now, units, seed, images)
        each = [_neighbours(notes, now, data, unit, key, f"K={draws}") for unit in range(units)]
        if subject.exact:
            own = released(now, data, key) - released(now, zeroed(data, range(units)), key)
            notes.expect(
                _close(own, reduce(torch.add, each), now, units),
                f"the sum is not that of the units' clipped gradients (K={draws})",
            )
    data = latents(everyone, units, seed)
    for scale in SCALES[3:6] + SCALES[7:] if brief else SCALES:
        _neighbours(notes, everyone, _scaled(data, 1, scale), 1, key, f"latents times {scale:g}")
    _neighbours(notes, everyone, _copied(data, 2, 1), 2, key, "a duplicate")
    alone = zeroed(data, [u for u in range(units) if u != 0])
    _neighbours(notes, everyone, alone, 0, key, "the only unit")
    if subject.plan.gamma is None:
        norm = float(vector(own_gradient(everyone, data, key, 2)).norm())
        for share in NORMS:
            _neighbours(
                notes,
                everyone.with_plan(clip_norm=norm * share),
                data,
                2,
                key,
                f"clip norm {share:g} of its own",
            )
    _unread(notes, everyone, data, key)
    _poisson(notes, subject, seed, units + 2)
    for extra in range(more):
        data = latents(everyone, units, seed + 1 + extra)
        _neighbours(notes, everyone, data, extra % units, key, "random", step=extra % 5)
    return notes.finding("M1", subject.name, sees="any unit that adds more than C (1 + rho)")


def _neighbours(
    notes: Notes, subject: Subject, data: LatentData, unit: int, key, what: str, step: int = 0
):
    """One replay of D and of D without `unit`; returns what the unit should have added."""
    here, bound = f"unit {unit}, {what}", subject.plan.sensitivity
    moved = released(subject, data, key, step=step) - released(
        subject, zeroed(data, [unit]), key, step=step
    )
    notes.numbers += 1
    if not notes.expect(bool(torch.isfinite(moved).all()), f"{here}: not finite"):
        return torch.zeros_like(moved)
    share = float(moved.norm()) / bound
    notes.expect(share <= 1 + BREACH, f"{here}: adds {share:.6g} of its bound")
    right = ideal(subject, own_gradient(subject, data, key, unit, step=step))
    if subject.exact:
        notes.expect(
            _close(moved, right, subject), f"{here}: what it adds is not its own clipped gradient"
        )
    return right


def _close(value: torch.Tensor, right: torch.Tensor, subject: Subject, units: int = 1) -> bool:
    return float((value - right).norm()) <= units * (
        EQUAL * subject.plan.clip_norm + _grid(subject, value)
    )


def _grid(subject: Subject, value: torch.Tensor) -> float:
    """What rounding a unit to the grid may change: one step in each number."""
    rounding = subject.plan.rounding
    assert rounding is not None  # as all that are made today
    return rounding.step * value.numel() ** 0.5


def _unread(notes: Notes, subject: Subject, data: LatentData, key) -> None:
    """A slot without a label weighs nothing, whatever lies in it."""
    gone = zeroed(data, [1])
    right = released(subject, gone, key)
    for scale in (1.0, 6e4, float("nan")):
        other = _scaled(data, 1, scale)
        label = gone.label
        moved = released(subject, replace(other, label=label), key) - right
        notes.numbers += 1
        notes.expect(
            float(moved.norm()) <= BREACH * subject.plan.clip_norm,
            f"a slot without a label is read (latents {scale:g})",
        )


def _poisson(notes: Notes, subject: Subject, seed: int, units: int) -> None:
    """Random draws: a unit adds nothing or its clipped gradient, whoever else was drawn.

    Both happen.
    """
    now, key = (
        subject.with_plan(n_units=units, expected_batch_size=units / 2),
        key_of(seed, subject.name + " drawn"),
    )
    data, drawn = latents(now, units, seed), []
    for step in range(24):  # correct code sees one of both kinds only with probability 2^-23
        moved = released(now, data, key, step=step) - released(
            now, zeroed(data, [3]), key, step=step
        )
        right = ideal(now, own_gradient(now, data, key, 3, step=step))
        drawn.append(float(moved.norm()) > BREACH * now.plan.clip_norm)
        notes.numbers += 1
        share = float(moved.norm()) / now.plan.sensitivity
        notes.expect(share <= 1 + BREACH, f"step {step}: adds {share:.6g} of its bound")
        if subject.exact:
            notes.expect(
                not drawn[-1] or _close(moved, right, now),
                f"step {step}: what it adds depends on who was drawn, or on the number drawn",
            )
        if step >= 5 and len(set(drawn)) == 2:
            break
    notes.expect(len(set(drawn)) == 2, "in 24 steps at rate 1/2 a unit was never drawn, or always")


def _scaled(data: LatentData, unit: int, scale: float) -> LatentData:
    images = data.order[data.first[unit] : data.first[unit + 1]]
    mean = data.mean.astype(np.float32)
    with np.errstate(all="ignore"):
        mean[images] = mean[images] * scale if np.isfinite(scale) else scale
        mean = np.where(np.isfinite(mean), np.clip(mean, -65504, 65504), mean)
    return replace(data, mean=mean.astype(np.float16))


def _copied(data: LatentData, to: int, source: int) -> LatentData:
    into, out = (data.order[data.first[u] : data.first[u + 1]] for u in (to, source))
    mean, label = data.mean.copy(), data.label.copy()
    mean[into], label[into] = mean[out], label[out]
    return replace(data, mean=mean, label=label)


def micro_batches(subject: Subject, seed: int, units: int = 11) -> Finding:
    """M6: microbatches of 1, 2, 3, 7 and all, and the reference engine, give the same numbers.

    And a step gives the optimiser the same whether others came before it or not (at learning rate
    0): nothing is left over.
    """
    notes, key = Notes(), key_of(seed, subject.name)
    sizes = [{"micro_batch": size} for size in (1, 2, 3, 7, None)] + [
        {"micro_batch": 1, "engine": "reference"}
    ]
    for draws, batch in ((1, units), (2, units / 2)):
        now = subject.with_plan(n_units=units, expected_batch_size=float(batch), noise_draws=draws)
        data = latents(now, units, seed)
        whole = released(now.with_performance(**sizes[-1]), data, key)
        for size in sizes[:-1]:
            value = released(now.with_performance(**size), data, key)
            notes.numbers += 1
            size_of = max(float(whole.norm()), now.plan.clip_norm)
            apart = float((value - whole).norm()) / size_of
            notes.expect(
                apart <= 2e-5 + units * _grid(now, whole) / size_of,
                f"microbatches of {size['micro_batch']} change the sum by {apart:.2g}, K={draws}",
            )
    now = subject.with_plan(n_units=units, expected_batch_size=units / 2)
    now, data = (
        replace(now, recipe=replace(now.recipe, learning_rate=0.0)),
        latents(subject, units, seed),
    )
    together = watch(now, data, key, step=5, steps=3).vectors
    for i, value in enumerate(together):
        alone = released(now, data, key, step=5 + i)
        notes.numbers += 1
        apart = float((value - alone).norm()) / max(float(alone.norm()), now.plan.clip_norm)
        notes.expect(
            apart <= 2e-5, f"step {i + 1} of three differs by {apart:.2g} from the same step alone"
        )
    return notes.finding(
        "M6",
        subject.name,
        sees="a relative difference of 2e-5, beside a grid step of each unit in each number",
    )
