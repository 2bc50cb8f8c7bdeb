"""A and A2: the loop's noise is integers of the declared size and shape.

And every part of it is independent of every other.
"""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import torch
from scipy import stats

from ..privacy.random.keys import RunKey
from .finding import Finding, Notes
from .statistics import (
    binomial_p,
    chi_square_p,
    correlation_p,
    correlation_seen,
    noise_seen,
    normality_p,
)
from .subject import Subject, key_of, latents, zeroed
from .watch import ideal, own_gradient, vector, watch

SIGMA = 1.3
# of the different numbers expected at least so many are there; in half precision there are hardly
# any
DISTINCT = 0.9
WHOLE = 1 << 20  # grid units up to which single precision shows whether a number is an integer
MOST = 1 << 22  # numbers looked at in one step of a large model


def size_and_shape(
    subject: Subject, seed: int, alpha: float, units: int = 5, least: int = 335_000
) -> Finding:
    """A: the noise has the declared size and shape, tensor by tensor.

    z = (what is released - the units' clipped gradients) / (sigma * sensitivity) is standard
    normal. Two-sided chi-square tests, Kolmogorov and Smirnov's for the shape, counts beyond 3 and
    4 standard deviations, and how many numbers are distinct. Steps are added until `least` numbers
    are there. The clipped gradients are those of plain autograd. Without any unit, what is released
    is integers of the plan's grid, whose lowest bits are uniform.
    """
    notes, key = Notes(), key_of(seed, subject.name + " noise")
    now = _loud(subject, units)
    data, parts, step = (
        latents(now, units, seed),
        {name: [] for name in now.adaptation.trainable},
        0,
    )
    unit = now.plan.noise_stddev
    while step == 0 or (notes.numbers < least and step < 200):
        sums = watch(now, data, key, step=step).released[0]
        right = sum(ideal(now, own_gradient(now, data, key, u, step=step)) for u in range(units))
        z, at = ((vector(sums) - right) / unit).numpy(), 0
        for name, tensor in sums.items():
            parts[name].append(z[at : at + tensor.numel()])
            at += tensor.numel()
        notes.numbers += len(z)
        step += 1
    named = {name: np.concatenate(part) for name, part in parts.items()}
    shape_tests(notes, named, 0.9 * alpha)
    silent = watch(now, zeroed(data, range(units)), key, step=step).vectors[0].numpy()
    if (grid := getattr(now.plan, "rounding", None)) is not None:
        integer_tests(notes, silent / grid.step, 0.1 * alpha)
    looked = silent[:MOST]
    distinct = len(np.unique(looked)) / len(looked)
    expected = 1.0 if grid is None else distinct_integers(len(looked), unit / grid.step)
    notes.expect(
        distinct >= DISTINCT * expected,
        f"only {100 * distinct:.3g} % of the noise's numbers differ: it was rounded",
    )
    seen = noise_seen(notes.numbers, alpha / 2)
    return notes.finding("A", subject.name, sees=f"noise {100 * (1 - seen):.2f} % off", alpha=alpha)


def distinct_integers(count: int, sd: float) -> float:
    """The share of different values expected among `count` normals rounded to integers.

    `sd` is their standard deviation.
    """
    edges = np.linspace(-8.0, 8.0, 20_001)
    expected = count * stats.norm.pdf(edges) / sd  # of each integer there
    return float(np.sum(-np.expm1(-expected)) * (edges[1] - edges[0]) * sd / count)


def _loud(subject: Subject, units: int) -> Subject:
    """Everyone drawn, in several microbatches, with noise of the size that runs have."""
    sigma = subject.plan.noise_multiplier if subject.plan.noise_multiplier > 0.1 else SIGMA
    plan = {
        "n_units": units,
        "expected_batch_size": float(units),
        "noise_multiplier": sigma,
        "steps": 1000,
    }
    return subject.with_plan(**plan).with_performance(micro_batch=2)


def shape_tests(notes: Notes, named: dict[str, np.ndarray], alpha: float) -> None:
    """Notes whatever is not standard normal.

    Half of alpha goes to the total, the rest is shared by tensors and shape.
    """
    z = np.concatenate(list(named.values()))
    share = alpha / 2 / (len(named) + 3)
    size = float(np.sqrt(np.mean(z**2)))
    if not notes.expect(bool(np.isfinite(z).all()), "the noise is not finite"):
        return
    notes.expect(
        chi_square_p(float(np.sum(z**2)), len(z)) >= alpha / 2,
        f"noise is {size:.5f} of what was declared",
    )
    for name, part in named.items():
        own = float(np.sqrt(np.mean(part**2)))
        notes.expect(
            chi_square_p(float(np.sum(part**2)), len(part)) >= share,
            f"noise of {name} is {own:.4f} of what was declared",
        )
    notes.expect(normality_p(z[:MOST]) >= share, "noise is not normal (Kolmogorov and Smirnov)")
    for far in (3.0, 4.0):
        count, tail = int(np.sum(np.abs(z) > far)), 2 * float(stats.norm.sf(far))
        notes.expect(
            binomial_p(count, len(z), tail) >= share,
            f"{count} numbers beyond {far:g} sd, {tail * len(z):.0f} expected",
        )


def integer_tests(notes: Notes, units: np.ndarray, alpha: float) -> None:
    """Notes noise that is not integers in grid units, or whose lowest four bits are not uniform.

    Chi-square.
    """
    near = units[np.abs(units) < WHOLE]
    whole = np.rint(near)
    if (
        notes.expect(bool((np.abs(near - whole) < 0.1).all()), "the noise does not lie on the grid")
        and len(near) >= 1000
    ):
        counts = np.bincount(whole.astype(np.int64) & 15, minlength=16)
        notes.expect(
            float(stats.chisquare(counts).pvalue) >= alpha,
            "the lowest bits of the noise are not uniform",
        )


def independence(subject: Subject, seed: int, alpha: float) -> Finding:
    """A2: noise of other steps, tensors, attempts and keys is independent.

    One address twice gives equal bytes. Neither the global generators of torch, numpy and Python
    nor the experiment seed change anything, and none of them is read.
    """
    notes, units = Notes(), 4
    now = _loud(subject, units)
    nothing = zeroed(latents(now, units, seed), range(units))
    first, second = key_of(seed, subject.name + " one"), key_of(seed, subject.name + " two")
    unit = now.plan.noise_stddev

    def noise(
        key: RunKey, step: int = 0, attempt: int = 0, public_seed: int = 0
    ) -> dict[str, np.ndarray]:
        _seed_everything(public_seed)
        sums = watch(now, nothing, key, step=step, attempt=attempt).released[0]
        return {name: (value / unit).flatten().numpy() for name, value in sums.items()}

    kept = _seed_everything(seed, keep=True)
    try:
        base = noise(first)
        untouched = _states()
        others = {f"step {step}": noise(first, step=step) for step in (1, 2, 3)}
        others |= {"attempt 1": noise(first, attempt=1), "attempt 2": noise(first, attempt=2)}
        others |= {"another run with the same experiment seed": noise(second)}
        again = {
            "again": noise(first),
            "under another experiment seed": noise(first, public_seed=seed + 1),
        }
        _seed_everything(0)
        notes.expect(untouched == _states(), "a step draws from a global generator")
    finally:
        _restore(kept)
    for what, value in again.items():
        same = all(np.array_equal(base[name], value[name]) for name in base)
        notes.expect(same, f"the same address gives other noise {what}")
    _uncorrelated(notes, base, others, alpha)
    sees = f"correlation {correlation_seen(sum(map(len, base.values())), alpha):.2g} between steps"
    return notes.finding("A2", subject.name, sees=sees, alpha=alpha)


def _uncorrelated(notes: Notes, base: dict, others: dict[str, dict], alpha: float) -> None:
    """Notes correlations of equal places between these draws, and of all tensors of one draw."""
    draws = {"step 0": np.concatenate(list(base.values()))}
    draws |= {what: np.concatenate(list(value.values())) for what, value in others.items()}
    pairs = [(f"{a} and {b}", draws[a], draws[b]) for a, b in combinations(draws, 2)]
    for a, b in combinations(base, 2):
        size = min(len(base[a]), len(base[b]))
        if size >= 8:
            pairs.append((f"{a} and {b}", base[a][:size], base[b][:size]))
    for what, x, y in pairs:
        notes.numbers += len(x)
        # standardised, so that noise of a wrong size is not called dependent as well
        x, y = (v / max(float(np.sqrt(np.mean(v**2))), 1e-12) for v in (x, y))
        notes.expect(correlation_p(x, y) >= alpha / len(pairs), f"noise of {what} is correlated")


def _states() -> tuple:
    name, words, place, *rest = np.random.get_state(legacy=True)
    kept = (np.asarray(words).tobytes(), place, *rest)
    return bytes(torch.get_rng_state().tolist()), kept, random.getstate()


def _seed_everything(value: int, keep: bool = False):
    held = (torch.get_rng_state(), np.random.get_state(), random.getstate()) if keep else None
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)
    return held


def _restore(held) -> None:
    torch.set_rng_state(held[0])
    np.random.set_state(held[1])
    random.setstate(held[2])
