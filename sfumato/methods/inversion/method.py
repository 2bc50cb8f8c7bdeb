"""DPAgg-TI: an embedding of each image alone, and their noisy mean as a token (Peetathawatchai et
al., arXiv 2411.14639).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ...bases import Base, check_placeholders, save_embeds
from ...errors import SfumatoError
from ...privacy.mechanisms.mean import RULES, SUBSPACES
from ..adaptation import Adaptation, Prompts
from .batch import InversionRecipe, Inverter
from .geometry import Geometry, from_vocabulary, whole_space
from .handover import Inversion

# axes of the vocabulary for one vector: fewer would cut off what no public image speaks for
DIMENSIONS = 64
# axes of public images, which come sorted by how much styles differ along them
PUBLIC_DIMENSIONS = 32


def inversion(
    base: Base,
    prompts: Prompts,
    *,
    num_vectors: int = 1,
    aggregate: str = "clip",
    subspace: str | None = None,
    dimensions: int | None = None,
    radius: float | None = None,
    shrink: bool | None = None,
    inversion_steps: int | None = None,
    inversion_draws: int | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    precision: torch.dtype = torch.bfloat16,
) -> Adaptation:
    """Nothing trains in a loop: every image gets `num_vectors` token vectors of its own, and the
    plan pays for their sum.

    An image's own embedding is looked for in the whole space. aggregate: "clip" (residuals from the
    public anchor in a public subspace of `dimensions`, at most `radius` long, shrunk afterwards) or
    "unit" (the paper's: unit norm in the whole space, as they are). subspace: "vocabulary"
    (principal axes of the base's words; the default), "public" (what `start` holds, from images
    that need no protection) or "none" (all axes). Saves `learned_embeds.safetensors`, one token for
    each class.
    """
    if not prompts.placeholders:
        raise SfumatoError(
            "--method inversion puts a token in place of {class}: leave --no-embedder out"
        )
    if aggregate not in RULES:
        raise SfumatoError(f"--aggregate {aggregate}: choose {', '.join(RULES)}")
    subspace = subspace or ("none" if aggregate == "unit" else "public" if start else "vocabulary")
    if subspace not in SUBSPACES:
        raise SfumatoError(f"--subspace {subspace}: choose {', '.join(SUBSPACES)}")
    if aggregate == "unit" and (subspace != "none" or dimensions or shrink):
        raise SfumatoError(
            "--aggregate unit is the paper's recipe: the whole space, no subspace, no shrinkage"
        )
    if subspace == "public" and not start:
        raise SfumatoError(
            "--subspace public needs --public-data, images that may be looked at for free"
        )
    if num_vectors < 1 or (radius is not None and not radius > 0):
        raise SfumatoError("--num-vectors is at least 1, and a clip norm is above 0")
    check_placeholders(base, prompts.placeholders)
    width = base.word_vectors.shape[1]
    if subspace == "public":
        geometry = Geometry.from_tensors(start, num_vectors)
        if geometry.basis.shape[0] != num_vectors * width or len(geometry.anchor) != len(
            prompts.placeholders
        ):
            raise SfumatoError(
                "the public geometry belongs to another base, other classes or another"
                " --num-vectors"
            )
    else:
        axes = None if subspace == "none" else dimensions or num_vectors * min(DIMENSIONS, width)
        geometry = from_vocabulary(base, prompts.initializers, num_vectors, axes, radius)
    given = {"steps": inversion_steps, "draws": inversion_draws}
    recipe = InversionRecipe(**{k: v for k, v in given.items() if v is not None})
    space = whole_space(base, geometry.anchor, num_vectors)
    inverter = Inverter(base, prompts.prompts, prompts.placeholders, space, recipe, precision)
    shrunk = aggregate == "clip" if shrink is None else shrink
    found = Inversion(inverter, geometry, tuple(prompts.placeholders), aggregate, subspace, shrunk)

    def save(folder: Path) -> None:
        save_embeds(folder, dict(zip(found.placeholders, found.vectors)))

    return Adaptation(
        nn.ModuleDict({"unet": base.denoiser}),
        {},
        inverter.row_losses,
        inverter.row_losses,
        save,
        (),
        inversion=found,
    )
