"""The geometry of embeddings: a public anchor, axes of a public subspace, and a public radius.

Nothing here depends on private images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...bases import TextBase, word_vectors
from ...compute.device import to_device
from ...errors import SfumatoError

# how far an image's own embedding may go, in median distances of a word from the vocabulary's mean
FREE = 4.0


@dataclass(frozen=True)
class Geometry:
    """The affine subspace of embeddings: u = anchor + basis z.

    Attributes:
        anchor: [C, V * D], one per class.
        basis: [V * D, P], orthonormal columns.
        radius: The largest |z|.
        spectrum: [P], how much a style's mean coordinate varies between public styles (variance),
            None
            if unknown.
        signal: The norm of such a mean as a share of the radius, None if unknown.
        vectors: V.
    """

    anchor: torch.Tensor
    basis: torch.Tensor
    radius: float
    vectors: int
    spectrum: torch.Tensor | None = None
    signal: float | None = None

    @property
    def dimensions(self) -> int:
        """P, coordinates of one embedding."""
        return self.basis.shape[1]

    def to(self, where: torch.device) -> Geometry:
        """The same with anchor and axes on a device."""
        anchor, basis = to_device(self.anchor, where), to_device(self.basis, where)
        return replace(self, anchor=anchor, basis=basis)

    def embeddings(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Coordinates [B, P] of classes [B] -> token vectors [B, V, D]."""
        return (self.anchor[label] + z @ self.basis.T).view(len(z), self.vectors, -1)

    def coordinates(self, vectors: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The nearest coordinates [B, P] of token vectors [B, V, D]."""
        return (vectors.flatten(1) - self.anchor[label]) @ self.basis

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it as named tensors, for the run folder."""
        return {
            "anchor": self.anchor,
            "basis": self.basis,
            "radius": torch.tensor([self.radius], dtype=torch.float64),
            "spectrum": torch.zeros(0) if self.spectrum is None else self.spectrum,
            "signal": torch.tensor(
                [] if self.signal is None else [self.signal], dtype=torch.float64
            ),
        }

    @classmethod
    def from_tensors(cls, found: Mapping[str, torch.Tensor], vectors: int) -> Geometry:
        """The inverse of `tensors`."""
        return cls(
            found["anchor"],
            found["basis"],
            float(found["radius"][0]),
            vectors,
            found["spectrum"] if len(found["spectrum"]) else None,
            float(found["signal"][0]) if len(found["signal"]) else None,
        )


def start_anchor(base: TextBase, initializers: Sequence[str | None], vectors: int) -> torch.Tensor:
    """Returns token vectors [C, V * D] of public words.

    Further vectors of a class start from the vocabulary's mean.
    """
    rest = word_vectors(base, None).repeat(vectors - 1)
    return torch.stack([torch.cat([word_vectors(base, word), rest]) for word in initializers])


def whole_space(base: TextBase, anchor: torch.Tensor, vectors: int) -> Geometry:
    """Returns all axes around an anchor [C, V * D]: where an image's own embedding is searched.

    An embedding learned here and projected later is more informative than one that was never let
    out of the subspace (docs/methods.md).
    """
    return Geometry(anchor, torch.eye(anchor.shape[1]), freedom(base, vectors), vectors)


def freedom(base: TextBase, vectors: int) -> float:
    """How far an image's own embedding of so many vectors may go from its anchor.

    Without public images it is the radius of the sum, too: embeddings end at this bound, and a
    smaller one would shorten all of them, and their mean, by the same factor.
    """
    return FREE * vectors**0.5 * word_spread(base)


def word_spread(base: TextBase) -> float:
    """Median distance of a word from the vocabulary's mean."""
    table = base.word_vectors.float()
    return float((table - table.mean(0)).norm(dim=1).median())


def from_vocabulary(
    base: TextBase,
    initializers: Sequence[str | None],
    vectors: int,
    dimensions: int | None,
    radius: float | None = None,
) -> Geometry:
    """Returns axes that are the vocabulary's first `dimensions` principal components.

    Each vector has its share of them; all axes for None. SfumatoError if that many do not exist or
    cannot be shared evenly.
    """
    table = base.word_vectors.double()
    width = table.shape[1]
    each = width if dimensions is None else dimensions // vectors
    if dimensions is not None and (dimensions % vectors or not 1 <= each <= width):
        raise SfumatoError(
            f"--dimensions {dimensions}: a multiple of {vectors} and at most {vectors * width}"
        )
    if dimensions is None:
        axes = torch.eye(width)
    else:
        axes = torch.linalg.svd(table - table.mean(0), full_matrices=False).Vh[:each].T.float()
    basis = torch.block_diag(*[axes] * vectors)
    reach = freedom(base, vectors) if radius is None else radius
    return Geometry(start_anchor(base, initializers, vectors), basis, reach, vectors)


def from_public(
    vectors: np.ndarray,
    style: np.ndarray,
    classes: int,
    dimensions: int,
    count: int,
    anchor: torch.Tensor | None = None,
    radius: float | None = None,
) -> Geometry:
    """Anchor, axes, radius and spectrum from embeddings of public images.

    The anchor is the mean over kinds. Axes are first those where kinds differ, then those where
    images do (the kinds' scatter, and a tenth of that within them); with one kind, only the scatter
    within. The radius is the median norm of a residual.

    Args:
        vectors: Embeddings [n, V * D].
        style: Their kinds [n].
        classes: C.
        dimensions: P.
        count: V.
        anchor: [C, V * D] in place of the mean over kinds.
        radius: In place of the median norm.
    """
    if not 1 <= dimensions <= vectors.shape[1]:
        raise SfumatoError(f"--dimensions {dimensions}: at most {vectors.shape[1]}")
    u = torch.from_numpy(np.asarray(vectors, np.float64))
    kinds = [u[torch.from_numpy(style == k)] for k in np.unique(style)]
    means = torch.stack([k.mean(0) for k in kinds])
    middle = means.mean(0)
    within = sum((k - k.mean(0)).T @ (k - k.mean(0)) for k in kinds) / max(1, len(u) - len(kinds))
    scatter = 0.1 * within
    if len(kinds) > 1:
        scatter = scatter + (means - middle).T @ (means - middle) / (len(kinds) - 1)
    axes = torch.linalg.eigh(scatter).eigenvectors.flip(1)[:, :dimensions]
    residual = (u - middle) @ axes
    reach = float(residual.norm(dim=1).median()) if radius is None else radius
    spectrum, signal = None, None
    if len(kinds) > 1:
        clipped = residual * (reach / residual.norm(dim=1, keepdim=True).clamp_min(reach))
        found = torch.stack(
            [clipped[torch.from_numpy(style == k)].mean(0) for k in np.unique(style)]
        )
        seen = found.square().sum(0) / (len(kinds) - 1)
        # A private style may differ where the public ones agree: a quarter of what is seen is
        # spread over all axes.
        spectrum = (0.75 * seen + 0.25 * seen.mean()).float()
        signal = float(found.norm(dim=1).median() / reach)
    start = middle.float().repeat(classes, 1) if anchor is None else anchor
    return Geometry(start, axes.float().contiguous(), reach, count, spectrum, signal)
