"""M3 and M4: what the loop does besides adding up.

Only noised tensors change; no draw and no record changes its course.
"""

from __future__ import annotations

import numpy as np
import torch

from .finding import Finding, Notes
from .statistics import chi_square_p
from .subject import Subject, key_of, latents, zeroed
from .watch import Seen, vector, watch


def changed_set(subject: Subject, seed: int, units: int = 5) -> Finding:
    """M3: the tensors that a step changes are exactly those that are noised.

    The optimiser's state likewise. Frozen weights and buffers are equal to the bit. Every tensor
    has a gradient of its own besides its noise.
    """
    notes, key = Notes(), key_of(seed, subject.name)
    now = subject.with_plan(n_units=units, expected_batch_size=float(units))
    data, names = latents(now, units, seed), set(subject.adaptation.trainable)
    inside = _names_inside(subject)
    for steps in (1, 2):
        seen = watch(now, data, key, steps=steps)
        notes.numbers += len(inside)
        extra = seen.moved - set(inside.values())
        notes.expect(
            not extra, f"{min(extra, default='')} changes and is not noised ({len(extra)} such)"
        )
        still = set(inside.values()) - seen.moved
        notes.expect(not still, f"{min(still, default='')} does not move ({len(still)} such)")
        notes.expect(
            all(set(sums) == names for sums in seen.released),
            "the optimiser is not given every tensor, or more",
        )
        kept = {name.partition("/")[2] for name in seen.state if name.startswith("exp_avg/")}
        notes.expect(
            kept == names, "the optimiser keeps state of other tensors than those that train"
        )
    loud, silent = (watch(now, d, key).released[0] for d in (data, zeroed(data, range(units))))
    # A zero-initialised factor's partner has no gradient in the first step, and none is owed to it
    # then.
    dead = [n for n in names if torch.equal(loud[n], silent[n]) and not _owed_nothing(subject, n)]
    notes.expect(not dead, f"{min(dead, default='')} gets noise and no gradient ({len(dead)} such)")
    return notes.finding("M3", subject.name, sees="one changed number outside the noised tensors")


def _names_inside(subject: Subject) -> dict[str, str]:
    """Names of the trainable tensors -> their names in the model (which may hold one under two)."""
    place = {id(p): name for name, p in subject.adaptation.model.named_parameters()}
    return {name: place[id(p)] for name, p in subject.adaptation.trainable.items()}


def _owed_nothing(subject: Subject, name: str) -> bool:
    return any(not bool(p.detach().any()) for p in subject.adaptation.trainable.values())


def course(subject: Subject, seed: int, alpha: float, steps: int = 8) -> Finding:
    """M4: empty, single and all-NaN batches are noised once and counted, like any other.

    They are finite and leave the same trace. With a rate at which steps are empty, hold one unit or
    both; once with ordinary latents, once with NaN, Inf and the largest half-precision number, once
    with nothing. At a rate at which all steps are empty, the releases are noise and nothing else.
    """
    notes, key = Notes(), key_of(seed, subject.name)
    now = subject.with_plan(n_units=2, expected_batch_size=1.0, noise_multiplier=1.0)
    data = latents(now, 2, seed)
    nothing = zeroed(data, [0, 1])
    silent = watch(now, nothing, key, steps=steps)
    traces = {"ordinary": watch(now, data, key, steps=steps)}
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("huge", 65504.0)):
        bad = type(data)(
            np.full_like(data.mean, value), data.std, data.label, data.order, data.first
        )
        traces[name] = watch(now, bad, key, steps=steps)
    for name, seen in traces.items():
        notes.numbers += steps
        notes.expect(seen.trace == silent.trace, f"{name} latents change the course of the loop")
        notes.expect(
            seen.steps == steps == len(seen.released),
            f"{name} latents: a step was left out or done twice",
        )
        finite = all(bool(torch.isfinite(v).all()) for v in seen.vectors)
        notes.expect(finite, f"{name} latents: what is released is not finite")
    for name in ("NaN", "Inf"):
        same = all(torch.equal(a, b) for a, b in zip(traces[name].vectors, silent.vectors))
        notes.expect(same, f"a batch of {name} adds something to the sum")
    _only_noise(notes, silent, now, alpha)
    never = now.with_plan(n_units=2, expected_batch_size=2e-9)
    empty = watch(never, data, key, steps=steps)
    notes.expect(empty.trace == silent.trace, "empty draws change the course of the loop")
    apart = [float((a - b).norm() / b.norm()) for a, b in zip(empty.vectors, silent.vectors)]
    notes.expect(
        len(apart) == steps and max(apart) <= 1e-5,
        "an empty draw releases something other than its noise",
    )
    lone = now.with_plan(n_units=2, expected_batch_size=2.0)
    one = watch(lone, zeroed(data, [1]), key).vectors[0]
    notes.expect(bool(torch.isfinite(one).all()), "a batch of one is not finite")
    return notes.finding(
        "M4", subject.name, sees="a skipped, repeated or unnoised step", alpha=alpha
    )


def _only_noise(notes: Notes, silent: Seen, subject: Subject, alpha: float) -> None:
    """Every step without units has noise of the declared size."""
    unit = subject.plan.noise_stddev
    for step, sums in enumerate(silent.released):
        z = vector(sums) / unit
        p = chi_square_p(float((z**2).sum()), len(z))
        size = float((z**2).mean().sqrt())
        notes.expect(
            p >= alpha / len(silent.released), f"step {step} of nothing has {size:.3g} of its noise"
        )
