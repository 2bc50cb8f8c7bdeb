"""H, and M1 for one-shot queries: the class histogram and the probe.

By the functions that a run calls. A further mechanism is one more `OneShot`, in `mechanisms` or, as
the sum of embeddings, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ..methods.saliency.probe import release_scores, total_scores
from ..privacy.mechanisms.votes import STEP, Probe
from ..privacy.random.keys import RunKey
from ..runs.execute import noisy_class_counts
from ..training import UnitBatch
from .finding import Finding, Notes
from .noise import integer_tests, shape_tests
from .statistics import noise_seen
from .subject import Subject, dummy_plan, dummy_subject, key_of, latents, zeroed

MATRICES = 5  # that the dummy probe ranks
NUMBERS = 40_000  # so that noise 3 % off shows


@dataclass(frozen=True)
class OneShot:
    """A one-shot query.

    `release(data, key)`: the package's own code, whose answer leaves; `pairs`: neighbours D and D',
    by name; `nothing`: data of `NUMBERS` answers that are all zero. `sensitivity` and `sigma` are
    those of the plan's event (noise has sd sigma times sensitivity), `grid` the unit of which every
    answer is a multiple (0: none).
    """

    name: str
    release: Callable[[Any, RunKey], np.ndarray]
    pairs: dict[str, tuple[Any, Any]]
    nothing: Any
    sensitivity: float
    sigma: float
    grid: float


def neighbours(mechanism: OneShot, seed: int) -> Finding:
    """M1: two neighbours' answers under one key differ by at most the declared sensitivity.

    And for one pair they do differ.
    """
    notes, key, moved = Notes(), key_of(seed, mechanism.name), []
    for what, (full, without) in mechanism.pairs.items():
        difference = mechanism.release(full, key) - mechanism.release(without, key)
        notes.numbers += 1
        if notes.expect(bool(np.isfinite(difference).all()), f"{what}: not finite"):
            moved.append(float(np.linalg.norm(difference)) / mechanism.sensitivity)
            notes.expect(
                moved[-1] <= 1 + 1e-9, f"{what}: moves the answer by {moved[-1]:.6g} sensitivities"
            )
    notes.expect(max(moved, default=0.0) > 0, "no unit moves the answer at all")
    return notes.finding(
        "M1", mechanism.name, sees="any unit that moves the answer by more than its sensitivity"
    )


def noise(mechanism: OneShot, seed: int, alpha: float) -> Finding:
    """H: the noise has the declared size and shape, and the answers lie on the grid.

    With a sensitivity that is not 1.
    """
    notes = Notes()
    answers = mechanism.release(mechanism.nothing, key_of(seed, mechanism.name + " noise"))
    z = answers / (mechanism.sigma * mechanism.sensitivity)
    notes.numbers = len(z)
    shape_tests(notes, {"the answers": z}, 0.9 * alpha)
    if mechanism.grid:
        units = answers / mechanism.grid
        notes.expect(
            float(np.abs(units - np.rint(units)).max()) < 1e-6, "answers do not lie on the grid"
        )
        integer_tests(notes, units, 0.1 * alpha)
    other = mechanism.release(mechanism.nothing, key_of(seed + 1, mechanism.name + " noise"))
    again = mechanism.release(mechanism.nothing, key_of(seed, mechanism.name + " noise"))
    notes.expect(bool(np.array_equal(answers, again)), "the same address gives other noise")
    together = float(np.dot(z, other / (mechanism.sigma * mechanism.sensitivity)) / np.sqrt(len(z)))
    notes.expect(abs(together) < 6, "two runs have the same noise")
    seen = noise_seen(len(z), alpha / 2)
    return notes.finding(
        "H", mechanism.name, sees=f"noise {100 * (1 - seen):.1f} % off", alpha=alpha
    )


def mechanisms() -> list[OneShot]:
    """Every one-shot query of the package, on dummy data, with sensitivities other than 1."""
    return [
        histogram(1, 3.0),
        histogram(3, 2.5),
        probe("votes", votes=3),
        probe("squares", clip_norm=2.0),
        probe("squares"),
    ]


def histogram(most: int, sigma: float) -> OneShot:
    """Class counts of which a unit moves at most `most`.

    Units with up to five images, an unusable one, one without a label.
    """

    def records(unit, labels, usable=None) -> SimpleNamespace:
        usable = np.ones(len(unit), bool) if usable is None else np.asarray(usable)
        return SimpleNamespace(unit=np.asarray(unit), labels=np.asarray(labels), usable=usable)

    def release(data, key: RunKey) -> np.ndarray:
        labels, classes = data
        plan = dummy_plan(max_per_unit=most, classes=classes, prompts=classes)
        return noisy_class_counts(labels, replace_histogram(plan, sigma), key)

    units = [0, 0, 0, 0, 0, 1, 2, 2, 3] if most > 1 else list(range(9))
    labels, few = [2, 2, 2, 2, 1, 0, 3, 1, 2], tuple("abcd")
    full = (records(units, labels), few)
    pairs = {}
    for unit in sorted(set(units)):
        gone = [-1 if u == unit else label for u, label in zip(units, labels)]
        pairs[f"unit {unit} without labels"] = (full, (records(units, gone), few))
        pairs[f"unit {unit} unusable"] = (
            full,
            (records(units, labels, [u != unit for u in units]), few),
        )
    many = tuple(f"class {i}" for i in range(NUMBERS))
    name = f"histogram, {most} per unit"
    return OneShot(
        name, release, pairs, (records([0, 1], [-1, -1]), many), float(most), sigma, 1 / 1024
    )


def replace_histogram(plan, sigma: float):
    """The plan with a histogram in it, and the event that pays for it."""
    from ..privacy.events import Gaussian

    return replace(plan, histogram_noise_multiplier=sigma, events=(Gaussian(sigma), *plan.events))


def probe(
    score: str, *, votes: int | None = None, clip_norm: float | None = None, sigma: float = 2.0
) -> OneShot:
    """The ranking of a dummy denoiser's matrices.

    Adversarial units: latents of every scale, Inf and NaN, several draws.
    """
    subject = dummy_subject("attention", n_units=6, expected_batch_size=6.0)
    matrices = {
        name: module.get_parameter("weight")
        for name, module in subject.adaptation.base.denoiser.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "time"
    }
    if len(matrices) != MATRICES:
        raise RuntimeError("the dummy probe has other matrices than it should")
    sensitivity = float(votes or 0) ** 0.5 if score == "votes" else (clip_norm or 1.0) ** 2

    def asked(groups: tuple[str, ...]) -> Probe:
        return Probe(groups, 2, score, votes, clip_norm, False, 6.0, 2, sigma)

    def release(data, key: RunKey) -> np.ndarray:
        if isinstance(data, int):
            zeros = torch.zeros(data, dtype=torch.int64)
            return np.array(
                release_scores(asked(tuple(f"matrix {i}" for i in range(data))), zeros, key, 0)[0]
            )
        return np.array(
            release_scores(
                asked(tuple(matrices)),
                _total(asked(tuple(matrices)), subject, matrices, data, key),
                key,
                0,
            )[0]
        )

    data = latents(subject, 6)
    pairs = {"a unit": (data, zeroed(data, [0]))}
    for scale in (0.0, 30.0, 6e4, np.inf, np.nan):
        mean = data.mean.copy()
        mean[1] = (
            scale
            if not np.isfinite(scale)
            else np.clip(mean[1].astype(np.float32) * scale, -65504, 65504)
        )
        pairs[f"latents times {scale:g}"] = (replace(data, mean=mean), zeroed(data, [1]))
    name = f"probe, {score}" + (f", C_s = {clip_norm:g}" if clip_norm else "")
    grid = 2.0**-10 if score == "votes" else sensitivity * 2.0**-20
    return OneShot(name, release, pairs, NUMBERS, sensitivity, sigma, grid)


def _total(probe: Probe, subject: Subject, matrices: dict, data, key: RunKey) -> torch.Tensor:
    recipe, groups = subject.recipe, {name: [name] for name in matrices}
    batch = UnitBatch(
        data,
        np.arange(data.n_units),
        key,
        STEP,
        0,
        probe.noise_draws,
        recipe.time_bias,
        recipe.caption_dropout,
        subject.adaptation.base.times,
    )
    losses = subject.adaptation.row_losses
    return total_scores(probe, groups, losses, matrices, subject.adaptation.base.denoiser, batch, 2)
