"""What an inversion makes of a base: what inverts, and how the embeddings are put together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ...bases import save_embeds, text_base
from ...privacy.mechanisms.mean import Aggregation
from ..adaptation import Adapted
from .batch import Inverter
from .geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Inverting(Adapted):
    """Nothing trains in the loop: embeddings of single images are put together instead.

    inverter: learns them, in the whole space. geometry: the public one that they are put together
    in. rule, subspace, shrink: as in `Aggregation`.
    """

    inverter: Inverter
    geometry: Geometry
    placeholders: tuple[str, ...]
    rule: str
    subspace: str
    shrink: bool

    @property
    def most_trainable(self) -> int:
        """Numbers that are released: one vector of coordinates for each class."""
        return self.geometry.dimensions * len(self.placeholders)

    @property
    def clip_norm(self) -> float:
        """The most that one unit adds to the sum: the public radius, or 1 for unit vectors."""
        return 1.0 if self.rule == "unit" else self.geometry.radius

    def aggregation(self, expected_units: float) -> Aggregation:
        """The mechanism for so many units.

        Classes count as equally large, whatever the private shares are.
        """
        blocks = len(self.placeholders)
        return Aggregation(
            self.rule,
            blocks,
            self.geometry.dimensions,
            self.geometry.vectors,
            self.subspace,
            self.shrink,
            (expected_units / blocks,) * blocks,
        )

    def with_vectors(self, vectors: torch.Tensor) -> Inverting:
        """The same, whose `save` writes these token vectors [C, V, D]."""
        found, parts = dict(zip(self.placeholders, vectors)), text_base(self.base).token_parts
        return replace(self, save=lambda folder: save_embeds(folder, found, parts))
