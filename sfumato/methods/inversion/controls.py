"""Tokens to compare a released one with.

Those that do not depend on private images, and the exact ones, which never leave the run folder.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ...bases import Base, replace_embeds, save_embeds, text_base
from ...options import Sampling
from ...privacy.mechanisms.mean import Aggregation
from ...privacy.random.keys import RunKey
from ...releases import marked_png
from ...synthesis.samples import few_pictures
from . import aggregate
from .geometry import Geometry

PUBLIC_KEY = RunKey(bytes(32))  # the draws that anybody may repeat
EXACT = ("non-private", "one-image")
FOLDER = "controls"
MARK = "PRIVATE"
NOTE = """PRIVATE

This token was computed from private images without noise. No epsilon covers it. It is here to be
compared with (`sfumato evaluate`),
and no release takes it.
"""


def public_tokens(
    aggregation: Aggregation, geometry: Geometry, clip_norm: float, noise_multiplier: float
) -> dict[str, torch.Tensor]:
    """Returns token vectors [C, V, D] that need no private image.

    The anchor alone, and the same mechanism on a zero sum. The noise has the law of the released
    token's, and is another draw from a key that is public.
    """
    nothing = np.zeros(aggregation.numbers, np.int64)
    noise = aggregate.add_noise_once(
        aggregation, noise_multiplier, nothing, PUBLIC_KEY, 0, "control"
    )
    every = torch.arange(aggregation.blocks)
    return {
        "anchor": geometry.embeddings(torch.zeros(aggregation.blocks, geometry.dimensions), every),
        "noise-only": aggregate.embeddings(
            aggregation, geometry, clip_norm, noise_multiplier, noise
        ),
    }


def exact_tokens(
    geometry: Geometry, vectors: np.ndarray, label: np.ndarray, blocks: int
) -> dict[str, torch.Tensor]:
    """The exact mean of all embeddings, per class, and the first usable image's alone. PRIVATE.

    Of embeddings float32 [n, V * D] with labels int64 [n]; the anchor for a class without images.
    """
    own = [np.flatnonzero(label == c) for c in range(blocks)]
    anchor = geometry.anchor.numpy()
    rows = {
        "non-private": [
            vectors[use].mean(0) if len(use) else anchor[c] for c, use in enumerate(own)
        ],
        "one-image": [vectors[use[0]] if len(use) else anchor[c] for c, use in enumerate(own)],
    }
    shape = (blocks, geometry.vectors, -1)
    return {name: torch.from_numpy(np.stack(found)).view(shape) for name, found in rows.items()}


def save_tokens(
    folder: Path, placeholders: Sequence[str], tokens: Mapping[str, torch.Tensor]
) -> None:
    """Writes a folder for each token.

    An exact one gets a file PRIVATE, which also keeps it out of any release.
    """
    for name, vectors in tokens.items():
        save_embeds(folder / name, dict(zip(placeholders, vectors)))
        if name in EXACT:
            (folder / name / MARK).write_text(NOTE, encoding="utf-8")


def distances(
    geometry: Geometry, tokens: Mapping[str, torch.Tensor]
) -> dict[str, dict[str, float]]:
    """Returns each token's distance from the anchor, in radii, and its cosine with the anchor.

    Means over its classes.
    """
    anchor = geometry.anchor.double()
    found = {}
    for name, vectors in tokens.items():
        flat = vectors.double().flatten(1)
        found[name] = {
            "from_anchor": float(((flat - anchor).norm(dim=1) / geometry.radius).mean()),
            "cosine_with_anchor": float(cosine(flat, anchor)),
        }
    return found


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean cosine of the rows of [C, N] and [C, N]; 0 if one of them is zero."""
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)).mean()


def draw_beside(
    base: Base,
    placeholders: Sequence[str],
    tokens: Mapping[str, torch.Tensor],
    prompts: Sequence[str],
    labels: np.ndarray,
    indices: np.ndarray,
    sampling: Sampling,
    seconds: float | None = None,
) -> dict[str, list[str]]:
    """Draws the same images with each token, as base64 of PNG files.

    Args:
        base: Knows the placeholders already; afterwards it holds the last token.
        placeholders: One per class.
        tokens: Name -> token vectors [C, V, D].
        prompts: One per class.
        labels: Classes of all images.
        indices: Numbers of the images to draw.
        sampling: How they are drawn.
        seconds: About how long all rows may take: the first decides how many pictures they have.
    """
    found: dict[str, list[str]] = {}
    limit = None if seconds is None else seconds / len(tokens)
    for name, vectors in tokens.items():
        replace_embeds(text_base(base), dict(zip(placeholders, vectors)))
        drawn = few_pictures(base, prompts, labels, indices, sampling, limit)
        found[name] = [base64.b64encode(marked_png(image)).decode("ascii") for image in drawn]
        indices, limit = indices[: len(drawn)], None
    return found
