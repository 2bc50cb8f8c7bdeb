"""A geometry for embeddings, from images that need no protection."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ...bases import TextBase
from ...errors import SfumatoError
from ...training import build_latents
from ..given import PublicImages
from ..prompts import Prompts
from .batch import InversionRecipe, Inverter, chunks
from .controls import PUBLIC_KEY
from .cost import MOST_ROWS
from .geometry import Geometry, from_public, start_anchor, whole_space

PUBLIC_EACH, PUBLIC_MOST = 16, 320  # public images that are inverted, of one kind and in all
# axes of public images, which come sorted by how much styles differ along them
PUBLIC_DIMENSIONS = 32


def public_geometry(
    base: TextBase,
    public: PublicImages,
    prompts: Prompts,
    vectors: int,
    recipe: InversionRecipe,
    *,
    dimensions: int | None = None,
    radius: float | None = None,
    seed: int = 0,
) -> Geometry:
    """One anchor for all classes, axes and radius, learned from public images.

    Their classes are kinds of style.

    Args:
        base: The base.
        public: The images.
        prompts: Of the private data's classes.
        vectors: Of one token.
        recipe: How one image is inverted.
        dimensions: How many axes (default: `PUBLIC_DIMENSIONS` a vector).
        radius: The longest residual (default: as the images show).
        seed: Public: which of the images are inverted.

    Raises:
        SfumatoError: Classes whose tokens start from different words.
    """
    if len(set(prompts.initializers)) > 1:
        raise SfumatoError(
            "--subspace public has one anchor for all classes: use --subspace vocabulary with class"
            " tokens"
        )
    found, kind = public_embeddings(base, public, prompts, vectors, recipe, seed=seed)
    size = dimensions or min(vectors * PUBLIC_DIMENSIONS, found.shape[1])
    return from_public(found, kind, len(prompts.prompts), size, vectors, radius=radius)


def public_embeddings(
    base: TextBase,
    public: PublicImages,
    prompts: Prompts,
    vectors: int,
    recipe: InversionRecipe,
    *,
    seed: int = 0,
    each: int = PUBLIC_EACH,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns embeddings float32 [n, V * D] and kinds int64 [n] of public images.

    In the whole space around the anchor.

    Args:
        base: The base.
        public: The images.
        prompts: Of the private data's classes.
        vectors: V.
        recipe: How one image is inverted.
        seed: Public: which of the images are inverted.
        each: The most images of one kind.
    """
    rng, use = np.random.default_rng(seed), []
    for kind in range(len(public.classes)):
        use.append(rng.permutation(np.flatnonzero(public.usable & (public.labels == kind)))[:each])
    use = np.sort(np.concatenate(use))
    use = np.sort(rng.permutation(use)[:PUBLIC_MOST])
    # Every kind is inverted from the first class's prompt and anchor: its label is only looked at
    # afterwards.
    geometry = whole_space(base, start_anchor(base, prompts.initializers[:1], vectors), vectors)
    inverter = Inverter(base, prompts.prompts[:1], tuple(prompts.tokens)[:1], geometry, recipe)
    rows = max(1, MOST_ROWS // recipe.draws)
    with tempfile.TemporaryDirectory() as folder:
        data = build_latents(
            Path(folder),
            len(use),
            lambda slots: public.load(use[slots], base.resolution),
            base.encode,
            np.zeros(len(use), np.int64),
            np.arange(len(use)),
        )
        parts = [
            inverter.invert(data, chunk, PUBLIC_KEY)[0]
            for chunk in chunks(np.arange(len(use)), rows)
        ]
    z = np.concatenate(parts)[: len(use)]
    return inverter.vectors(z, np.zeros(len(z), np.int64)), public.labels[use]
