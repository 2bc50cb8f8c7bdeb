"""M1 and H for the sum of embeddings.

The bound and the noise on dummy vectors, and a run's own inverter on dummy latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..bases import Base
from ..methods import Given, Inversion, Prompts
from ..methods.inversion import aggregate
from ..methods.inversion.batch import Chunk
from ..privacy.mechanisms.mean import GRID, Aggregation
from ..privacy.random.keys import RunKey
from ..training import LatentData
from .finding import Finding, Notes
from .oneshot import NUMBERS, OneShot, neighbours
from .subject import zeroed

BLOCKS, DIMENSIONS = 3, 8


def mechanisms() -> list[OneShot]:
    """Both rules, with a sensitivity other than 1 where there can be one."""
    return [aggregation("clip"), aggregation("unit", 1.0)]


def aggregation(rule: str, clip_norm: float = 0.37, sigma: float = 2.0) -> OneShot:
    """The bounded sum of dummy embeddings.

    Units of several images in several classes, some huge, infinite or NaN.
    """
    rng = np.random.default_rng(3)
    vectors, label = rng.standard_normal((12, DIMENSIONS)), np.arange(12) % BLOCKS
    owned = [np.arange(3 * u, 3 * u + 3) for u in range(4)]
    full = (vectors, label, owned)

    def release(data, key: RunKey) -> np.ndarray:
        said, marks, units = data
        own = _rule(rule, 1 if said.shape[1] == NUMBERS else BLOCKS, said.shape[1])
        total = aggregate.bounded_total(own, clip_norm, said, marks, units)
        return aggregate.add_noise_once(own, sigma, total, key, 0) * (clip_norm / GRID)

    pairs = {}
    for unit, images in enumerate(owned):
        gone = label.copy()
        gone[images] = -1
        pairs[f"unit {unit}"] = (full, (vectors, gone, owned))
        for scale in (1e-12, 1e12, 1e300, np.inf, np.nan):
            strange = vectors.copy()
            strange[images] *= scale
            pairs[f"unit {unit} times {scale:g}"] = (
                (strange, label, owned),
                (strange, gone, owned),
            )
    nothing = (np.zeros((2, NUMBERS)), np.array([-1, -1]), [np.array([0]), np.array([1])])
    return OneShot(
        f"embeddings, {rule}", release, pairs, nothing, clip_norm, sigma, clip_norm / GRID
    )


def inversion(prepared: Any, images: int = 4) -> OneShot:
    """A run's inverter, bound and noise together, from latents to the noisy sum.

    For M1 alone (two steps per image).
    """
    plan, inverting = prepared.plan, prepared.adaptation
    inverter = inverting.inverter
    short = inverter.with_recipe(replace(inverter.recipe, steps=2, check_every=1, checks=2))
    own, rng = plan.aggregation, np.random.default_rng(5)
    mean = rng.standard_normal((images, *inverter.latent_shape)).astype(np.float16)
    data = LatentData(
        mean,
        np.full_like(mean, 0.1),
        np.arange(images) % own.blocks,
        np.arange(images),
        np.arange(images + 1),
    )

    def release(latents: LatentData, key: RunKey) -> np.ndarray:
        z, _ = short.invert(latents, Chunk(np.arange(images)), key)
        learned, label = (
            inverter.vectors(z, np.maximum(latents.label, 0)),
            np.maximum(latents.label, 0),
        )
        said = aggregate.vector_of(own, inverting.geometry, learned, label)
        units = [np.array([i]) for i in range(images)]
        total = aggregate.bounded_total(own, plan.clip_norm, said, latents.label, units)
        noisy = aggregate.add_noise_once(own, plan.noise_multiplier, total, key, 0)
        return noisy * (plan.clip_norm / GRID)

    pairs = {f"image {i}": (data, zeroed(data, [i])) for i in range(images)}
    for scale in (30.0, np.inf, np.nan):
        strange = data.mean.copy()
        strange[1] *= np.float16(scale)
        pairs[f"latents times {scale:g}"] = (replace(data, mean=strange), zeroed(data, [1]))
    return OneShot(
        f"inversion, {own.rule}",
        release,
        pairs,
        data,
        plan.clip_norm,
        plan.noise_multiplier,
        plan.clip_norm / GRID,
    )


def isolation(prepared: Any) -> Finding:
    """M1: with one image removed the bits of all others stay, in chunks of the run's own size."""
    notes, rows = Notes(), prepared.performance.micro_batch
    holds = prepared.adaptation.inverter.self_check(rows)
    notes.numbers = 2 * rows
    notes.expect(holds, "an image's embedding depends on which others are inverted with it")
    return notes.finding("M1", f"isolation, {rows} rows", sees="one bit of one embedding")


def on_tiny(base: Base, prompts: Prompts, seed: int) -> Iterator[Finding]:
    """The method `inversion` on a tiny base: isolation, and its bound up to the noisy sum."""
    made = Inversion(dimensions=4, inversion_draws=1).apply(base, Given(prompts))
    plan = SimpleNamespace(
        aggregation=made.aggregation(6.0), clip_norm=made.clip_norm, noise_multiplier=2.0
    )
    prepared = SimpleNamespace(
        plan=plan, adaptation=made, performance=SimpleNamespace(micro_batch=5)
    )
    yield isolation(prepared)
    yield neighbours(inversion(prepared), seed)


def _rule(rule: str, blocks: int, dimensions: int) -> Aggregation:
    subspace = "none" if rule == "unit" else "vocabulary"
    return Aggregation(rule, blocks, dimensions, 1, subspace, False, (4.0 / blocks,) * blocks)
