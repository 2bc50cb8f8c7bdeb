"""DPAgg-TI: an embedding of each image alone, and their noisy mean as a token (Peetathawatchai et
al., arXiv 2411.14639).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import SfumatoError
from ...options import option
from ..interface import Given, Method

if TYPE_CHECKING:
    from ...bases import Base
    from ..adaptation import Adaptation
    from .batch import InversionRecipe
    from .geometry import Geometry

# axes of the vocabulary for one vector: fewer would cut off what no public image speaks for
DIMENSIONS = 64
# axes of public images, which come sorted by how much styles differ along them
PUBLIC_DIMENSIONS = 32


@dataclass(frozen=True)
class Inversion(Method):
    """Nothing trains in a loop: every image gets `num_vectors` token vectors of its own, and the
    plan pays for their sum.

    An image's own embedding is looked for in the whole space. aggregate: "clip" (residuals from the
    public anchor in a public subspace of `dimensions`, at most `radius` long, shrunk afterwards) or
    "unit" (the paper's: unit norm in the whole space, as they are). subspace: "vocabulary"
    (principal axes of the base's words), "public" (what `Given.start` holds, from images that need
    no protection) or "none" (all axes). Saves `learned_embeds.safetensors`, one token for each
    class.
    """

    name = "inversion"
    learns_tokens = True
    own_bound = "radius"

    num_vectors: int = option(1, "Vectors of one token.", least=1)
    aggregate: Literal["clip", "unit"] = option(
        "clip", "Residuals from the anchor, clipped (default), or unit vectors, as the paper does."
    )
    subspace: Literal["vocabulary", "public", "none"] | None = option(
        None,
        "Axes of what is learned: the base's words (default), or those of --public-data.",
    )
    dimensions: int | None = option(
        None, "How many axes (default 64 a vector, of public images 32).", least=1
    )
    radius: float | None = option(
        None, "Clip norm of a residual (default: from public words or images); = --clip-norm."
    )
    shrink: bool | None = option(None, "Take known noise off (default: with clip).")
    inversion_steps: int | None = option(None, "Steps of one image, at most (default 80).", least=1)
    inversion_draws: int | None = option(None, "Draws of one step (default 4).", least=1)

    def apply(self, base: Base, given: Given) -> Adaptation:
        from torch import nn

        from ...bases import check_placeholders, save_embeds
        from ..adaptation import Adaptation
        from .batch import Inverter
        from .geometry import whole_space
        from .handover import Handover

        words = given.prompts.placeholders
        if not words:
            raise SfumatoError(
                "--method inversion puts a token in place of {class}: leave --no-embedder out"
            )
        subspace = self.subspace_for(given)
        check_placeholders(base, words)
        geometry = self.geometry(base, given, subspace)
        space = whole_space(base, geometry.anchor, self.num_vectors)
        inverter = Inverter(
            base, given.prompts.prompts, words, space, self.recipe(), given.precision
        )
        shrunk = self.aggregate == "clip" if self.shrink is None else self.shrink
        found = Handover(inverter, geometry, tuple(words), self.aggregate, subspace, shrunk)

        def save(folder: Path) -> None:
            save_embeds(folder, dict(zip(found.placeholders, found.vectors)))

        model = nn.ModuleDict({base.prefix: base.denoiser})
        losses = inverter.row_losses
        return Adaptation(base, model, {}, losses, losses, save, (), inversion=found)

    def recipe(self) -> InversionRecipe:
        """How one image is inverted."""
        from .batch import InversionRecipe

        asked = {"steps": self.inversion_steps, "draws": self.inversion_draws}
        return InversionRecipe(**{k: v for k, v in asked.items() if v is not None})

    def subspace_for(self, given: Given) -> str:
        """The subspace that was asked for or follows; SfumatoError for options that contradict."""
        unit = self.aggregate == "unit"
        subspace = self.subspace or ("none" if unit else "public" if given.start else "vocabulary")
        if unit and (subspace != "none" or self.dimensions or self.shrink):
            raise SfumatoError(
                "--aggregate unit is the paper's recipe: the whole space, no subspace, no shrinkage"
            )
        if subspace == "public" and not given.start:
            raise SfumatoError(
                "--subspace public needs --public-data, images that may be looked at for free"
            )
        if self.radius is not None and not self.radius > 0:
            raise SfumatoError("--num-vectors is at least 1, and a clip norm is above 0")
        return subspace

    def geometry(self, base: Base, given: Given, subspace: str) -> Geometry:
        """Anchor, axes and radius, from the vocabulary or from what public images left."""
        from .geometry import Geometry, from_vocabulary

        width, words = base.word_vectors.shape[1], given.prompts.placeholders
        if subspace == "public":
            found = Geometry.from_tensors(given.start, self.num_vectors)
            if found.basis.shape[0] != self.num_vectors * width or len(found.anchor) != len(words):
                raise SfumatoError(
                    "the public geometry belongs to another base, other classes or another"
                    " --num-vectors"
                )
            return found
        most = self.num_vectors * min(DIMENSIONS, width)
        axes = None if subspace == "none" else self.dimensions or most
        initializers = given.prompts.initializers
        return from_vocabulary(base, initializers, self.num_vectors, axes, self.radius)
