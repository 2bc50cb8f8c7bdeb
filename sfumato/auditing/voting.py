"""M1 and H for rounds of votes.

The bound and the noise on dummy features, and a run's own feature space on dummy latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..bases import Base
from ..errors import SfumatoError
from ..methods.evolution.spaces import SIDE, Space, require_alone, space_of
from ..methods.evolution.voting import nearest, noisy_votes
from ..privacy.mechanisms.base_vote import STEP
from ..privacy.mechanisms.histogram import GRID, VoteHistogram
from ..privacy.random.keys import RunKey
from ..records import RecordSet
from ..runs.matching import TODAY, Comparison, bases_asked
from .finding import Finding, Notes
from .oneshot import NUMBERS, OneShot, neighbours

CLASSES, OF_CLASS, DIMENSIONS = 3, 5, 8


def mechanisms() -> list[OneShot]:
    """One vote an image, and several; votes for a base."""
    return [votes(1), votes(3, 2.5), base_votes()]


def votes(most: int, sigma: float = 2.0) -> OneShot:
    """One round of votes on dummy features.

    Units of one to five images, in one class or several, some huge, infinite or NaN.
    """
    rng = np.random.default_rng(7)
    sizes = (1, 2, 5, 4)
    ends = np.cumsum(sizes)
    owned = [np.arange(b - s, b) for s, b in zip(sizes, ends)]
    features = rng.standard_normal((int(ends[-1]), DIMENSIONS)).astype(np.float32)
    label = np.where(np.arange(len(features)) < 8, 1, np.arange(len(features)) % CLASSES)
    table = rng.standard_normal((CLASSES * OF_CLASS, DIMENSIONS)).astype(np.float32)
    own = VoteHistogram(len(table), CLASSES, most, "dummy")

    def release(data: Any, key: RunKey) -> np.ndarray:
        if data is None:
            # nobody votes for many candidates
            wide = VoteHistogram(NUMBERS, 1, most, "dummy")
            nobody = np.full((1, most), -1)
            return noisy_votes(wide, sigma, nobody, [np.arange(1)], key, 0, 0) / GRID
        said, marks = data
        named = nearest(own, said, marks, np.arange(len(marks)), table)
        return noisy_votes(own, sigma, named, owned, key, 0, 0) / GRID

    pairs: dict[str, tuple[Any, Any]] = {}
    for unit, images in enumerate(owned):
        gone, empty = label.copy(), features.copy()
        gone[images], empty[images] = -1, 0
        pairs[f"unit {unit}"] = ((features, label), (empty, gone))
        for scale in (1e-12, 1e12, 1e38, np.inf, np.nan):
            strange = features.copy()
            with np.errstate(over="ignore"):
                strange[images] *= np.float32(scale)
            pairs[f"unit {unit} times {scale:g}"] = ((strange, label), (empty, gone))
    return OneShot(f"votes, {most} an image", release, pairs, None, 1.0, sigma, 1 / GRID)


def base_votes(sigma: float = 2.0, by: Comparison = TODAY) -> OneShot:
    """The vote for a base, from dummy pictures to the histogram, by today's or a run's rule.

    Units of one to four images, which vote for one base or for several.
    """
    rng, side = np.random.default_rng(5), SIDE
    pictures = rng.integers(0, 256, (12, side, side, 3), dtype=np.uint8)
    unit = np.array([0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5])
    drawn = by.of_pictures(rng.permutation(pictures)).reshape(3, 4, -1)
    table = by.table_of(list(drawn))

    def read(usable: np.ndarray) -> RecordSet:
        shown = pictures * usable[:, None, None, None]
        none = np.zeros(len(unit), np.int64)
        return RecordSet("dummy", "array", ("a",), none, unit, None, usable, array=shown)

    def release(usable: np.ndarray | None, key: RunKey) -> np.ndarray:
        if usable is None:  # nobody votes for many bases
            wide = VoteHistogram(NUMBERS, 1, 1, "dummy")
            nobody = np.full((1, 1), -1)
            return noisy_votes(wide, sigma, nobody, [np.arange(1)], key, STEP, 0) / GRID
        return bases_asked(read(usable), side, table, sigma, key, STEP, by)

    whole = np.ones(len(unit), bool)
    pairs: dict[str, tuple[Any, Any]] = {f"unit {u}": (whole, unit != u) for u in range(6)}
    return OneShot("votes for a base", release, pairs, None, 1.0, sigma, 1 / GRID)


def isolation(base: Base, space: Space) -> Finding:
    """M1: a picture's features do not depend on which others are looked at with it."""
    notes = Notes()
    notes.numbers = 2
    try:
        require_alone(base, space)
        notes.expect(True, "")
    except SfumatoError as error:
        notes.expect(False, str(error))
    return notes.finding("M1", f"features {space.name}", sees="one bit of one feature")


def rounds(base: Base, space: Space, most: int, sigma: float) -> OneShot:
    """A run's feature space, votes and noise together, from latents to the histogram (M1)."""
    g = torch.Generator().manual_seed(11)
    latents = torch.randn((6, *base.latent_shape), generator=g)
    table = space.of_latents(torch.randn((2 * (most + 2), *base.latent_shape), generator=g))
    own, owned = VoteHistogram(len(table), 2, most, space.name), [np.arange(3), np.arange(3, 6)]

    def release(label: np.ndarray, key: RunKey) -> np.ndarray:
        features = space.of_latents(latents * torch.from_numpy(label >= 0).view(-1, 1, 1, 1))
        named = nearest(own, features, label, np.arange(len(label)), table)
        return noisy_votes(own, sigma, named, owned, key, 0, 0) / GRID

    label = np.array([0, 1, 0, 1, 1, 0])
    pairs = {}
    for unit, images in enumerate(owned):
        gone = label.copy()
        gone[images] = -1
        pairs[f"unit {unit}"] = (label, gone)
    name = f"rounds of votes in {space.name}"
    return OneShot(name, release, pairs, label, 1.0, sigma, 1 / GRID)


def on_tiny(base: Base, seed: int) -> Iterator[Finding]:
    """The method `evolution` on a tiny base: isolation, and the bound up to the histogram."""
    for name in ("latents", "pixels"):
        space = space_of(base, name)
        yield isolation(base, space)
        yield neighbours(rounds(base, space, 1, 2.0), seed)
