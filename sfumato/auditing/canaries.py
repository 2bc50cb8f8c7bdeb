"""E: canaries from image to optimiser.

Half of them are in the data, and what the optimiser is given must not reveal more than planned.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import nn

from ..bases import around
from ..methods.adaptation import Adaptation
from ..options import Performance
from ..training import Batch, LatentData, build_latents, write_texts
from .finding import Finding, Notes
from .models import ALPHAS
from .subject import Subject, changed, clipped, dummy_plan, key_of
from .watch import watch

CANARIES = 4000
# Epsilon 10 at delta 1e-5: audits are blind at low epsilon, and the code path is the same (arXiv
# 2305.08846, 2410.22235).
RATE, STEPS, SIGMA, EPSILON, DELTA = 0.05, 400, 0.8256, 10.0, 1e-5
SIMULATIONS = 40
GUESSES = 400
CONFIDENCE = 0.95


def end_to_end(clipping: str, seed: int, alpha: float, draws: int = 2) -> Finding:
    """E: d' = (mean score of canaries in the data - mean of those left out) / sd of the latter.

    Against its simulated null. A canary's gradient is C in a number of its own, so each is observed
    through the loader, sampler, engine, clip, noise and Adam of the loop. `detail` and `sees` are
    about d'; the lower bound on epsilon (one run, arXiv 2305.08846) is a reading.
    """
    notes, rng = Notes(numbers=CANARIES), np.random.default_rng([seed, 77])
    inside = rng.random(CANARIES) < 0.5
    observed = observe(clipping, inside, seed, draws)
    scores = score(observed)
    found = separation(scores, inside)
    null = np.array([separation(score(simulated(inside, rng)), inside) for _ in range(SIMULATIONS)])
    t = (found - null.mean()) / (null.std(ddof=1) * np.sqrt(1 + 1 / SIMULATIONS))
    p = float(2 * stats.t.sf(abs(t), SIMULATIONS - 1))
    more = "more" if t > 0 else "less"
    notes.expect(
        p >= alpha,
        f"canaries show {more} than planned: d' {found:.3f}, planned {null.mean():.3f}, t ="
        f" {t:.1f}",
    )
    bound = lower_bound(scores, inside)
    reading = (
        f"d' {found:.2f} of {null.mean():.2f} ± {null.std(ddof=1):.2f}; reading: epsilon >="
        f" {bound:.2f} of {EPSILON:g}"
    )
    return notes.finding("E", f"{clipping}, {CANARIES} canaries", sees=reading, alpha=alpha)


def observe(clipping: str, inside: np.ndarray, seed: int, draws: int = 2) -> np.ndarray:
    """What the optimiser is given of each canary's number, at every step.

    float32 [STEPS, canaries], in units of C.
    """
    count, seen = len(inside), []
    tables = nn.ModuleDict({name: nn.Embedding(count, 1) for name in ("left", "right")})
    base = around(tables, ALPHAS, (1, 1, 2))
    model = nn.ModuleDict({base.prefix: tables})

    def losses(batch: Batch) -> torch.Tensor:
        label, weight = batch.label.flatten(), batch.weight.flatten()
        caption = batch.text[""].flatten()
        return 10 * (tables["left"](label) + tables["right"](caption))[:, 0] * weight

    adaptation = Adaptation(
        base,
        model,
        dict(model.named_parameters()),
        lambda folder: None,
        ("left", "right"),
        row_losses=losses,
        exact_losses=losses,
    )
    names = tuple(f"canary {i}" for i in range(count))
    plan = dummy_plan(
        n_units=count,
        expected_batch_size=RATE * count,
        steps=STEPS,
        noise_multiplier=SIGMA,
        noise_draws=draws,
        classes=names,
        prompts=names,
    )
    subject = Subject(
        "canaries",
        changed(plan, trainable=2 * count, **clipped(plan, clipping, 2)),
        adaptation,
        (1, 1, 2),
        performance=Performance(micro_batch=512),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = watch(subject, _loaded(Path(folder), inside), key_of(seed, "canaries"), steps=STEPS)
    for sums in run.released:
        both = torch.cat(list(sums.values()), 1).sum(1) / np.sqrt(2) / subject.plan.clip_norm
        seen.append(both.float().numpy())
    return np.stack(seen)


def _loaded(folder: Path, inside: np.ndarray) -> LatentData:
    """The canaries by the package's own loader, images of one colour; the others do not decode.

    Each has its label and a caption of its own.
    """
    count = len(inside)

    def images(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(slots), 2, 2, 3), np.uint8), inside[slots]

    def encode(pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        flat = torch.zeros(len(pictures), 1, 1, 2)
        return flat, flat + 0.1

    def tell(captions: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[int(text) if text.isdigit() else 0] for text in captions])

    write_texts(folder, [str(number) for number in range(count)], tell)
    return build_latents(folder, count, images, encode, np.arange(count), np.arange(count))


def simulated(inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the optimiser would be given if the mechanism were exactly its event."""
    y = rng.standard_normal((STEPS, len(inside)), dtype=np.float32) * np.float32(SIGMA)
    return y + (rng.random((STEPS, len(inside)), dtype=np.float32) < RATE) * inside.astype(
        np.float32
    )


def score(y: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of "in" against "out" for each canary, [canaries]."""
    return np.log1p(RATE * np.expm1((2 * y - 1) / np.float32(2 * SIGMA**2))).sum(
        0, dtype=np.float64
    )


def separation(scores: np.ndarray, inside: np.ndarray) -> float:
    """The d' between the two halves, in units of the spread of those left out."""
    return float((scores[inside].mean() - scores[~inside].mean()) / scores[~inside].std(ddof=1))


def lower_bound(
    scores: np.ndarray, inside: np.ndarray, guesses: int = GUESSES, delta: float = DELTA
) -> float:
    """The largest epsilon that guesses on the most extreme scores refute at 95 % confidence.

    arXiv 2305.08846, theorem 5.2. Half of the guesses are "in", on the highest scores, half "out";
    their number was fixed beforehand. 0 if nothing is refuted.
    """
    order, half = np.argsort(scores, kind="stable"), guesses // 2
    right = int(inside[order[-half:]].sum() + (~inside[order[:half]]).sum())
    low, high = 0.0, 20.0
    if refutation(len(scores), 2 * half, right, low, delta) > 1 - CONFIDENCE:
        return 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if refutation(len(scores), 2 * half, right, middle, delta) <= 1 - CONFIDENCE
            else (low, middle)
        )
    return low


def refutation(count: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Upper bound on the probability of so many right guesses under (epsilon, delta)-DP.

    arXiv 2305.08846, theorem 5.2.
    """
    chance = 1 / (1 + np.exp(-epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, chance))
    # P[right - i <= X < right] / i, at its largest: how much delta may add
    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    most = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, tail + 2 * count * delta * most)
