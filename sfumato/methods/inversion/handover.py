"""What an inversion hands to its run: what inverts, and how the embeddings are put together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...privacy.mechanisms.mean import Aggregation
from .batch import Inverter
from .geometry import Geometry


@dataclass
class Handover:
    """What inverts (in the whole space), and how the embeddings are put together (in the public
    geometry).

    `vectors` [C, V, D]: the released ones, once there are any.
    """

    inverter: Inverter
    geometry: Geometry
    placeholders: tuple[str, ...]
    rule: str
    subspace: str
    shrink: bool
    vectors: torch.Tensor | None = None

    def aggregation(self, expected_units: float) -> Aggregation:
        """The mechanism for so many units: classes count as equally large, whatever the private
        shares are.
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

    @property
    def clip_norm(self) -> float:
        """The most that one unit adds to the sum: the public radius, or 1 for unit vectors."""
        return 1.0 if self.rule == "unit" else self.geometry.radius
