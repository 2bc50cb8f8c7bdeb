"""Anchor, axes and radius come from public things alone, and coordinates stand for the vectors they
came from.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.bases import load_base, word_vectors
from sfumato.errors import SfumatoError
from sfumato.methods.inversion.geometry import (
    Geometry,
    from_public,
    from_vocabulary,
    whole_space,
    word_spread,
)


@pytest.mark.parametrize("vectors, dimensions", [(1, None), (1, 5), (2, 6)])
def test_axes_are_orthonormal_and_the_anchor_is_the_public_word(tiny_base, vectors, dimensions):
    base = load_base(tiny_base)
    geometry = from_vocabulary(base, ["circle", None], vectors, dimensions)
    assert geometry.dimensions == (dimensions or 16 * vectors) and geometry.radius > 0
    assert torch.allclose(
        geometry.basis.T @ geometry.basis, torch.eye(geometry.dimensions), atol=1e-5
    )
    label = torch.tensor([0, 1])
    start = geometry.embeddings(torch.zeros(2, geometry.dimensions), label)
    assert start.shape == (2, vectors, 16)
    assert torch.equal(start[0, 0], word_vectors(base, "circle")) and torch.allclose(
        start[1, 0], word_vectors(base, None)
    )
    z = torch.randn(2, geometry.dimensions, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(geometry.coordinates(geometry.embeddings(z, label), label), z, atol=1e-5)


def test_public_styles_give_the_axes_in_which_they_differ():
    rng = np.random.default_rng(0)
    style = np.repeat(np.arange(6), 30)
    centre = 3.0 * rng.standard_normal((6, 2)) @ np.eye(20)[[4, 9]]
    vectors = 1.5 + centre[style] + 0.3 * rng.standard_normal((180, 20))
    geometry = from_public(vectors, style, 1, 2, 1)
    inside = geometry.basis.double().T[:, [4, 9]]
    assert torch.linalg.matrix_norm(inside) > 1.4  # of sqrt(2): the plane of the two axes
    assert (
        0.7 < geometry.signal <= 1 and geometry.spectrum.shape == (2,) and 1 < geometry.radius < 10
    )
    same = Geometry.from_tensors(geometry.tensors(), 1)
    assert (
        same.radius == geometry.radius
        and torch.equal(same.spectrum, geometry.spectrum)
        and same.signal == geometry.signal
    )
    alone = from_public(vectors[:30], style[:30], 1, 2, 1, radius=0.5)
    assert alone.spectrum is None and alone.signal is None and alone.radius == 0.5
    assert Geometry.from_tensors(alone.tensors(), 1).spectrum is None


def test_more_axes_than_there_are_is_refused(tiny_base):
    base = load_base(tiny_base)
    for vectors, dimensions in ((1, 17), (2, 5), (1, 0)):
        with pytest.raises(SfumatoError, match="--dimensions"):
            from_vocabulary(base, [None], vectors, dimensions)
    with pytest.raises(SfumatoError, match="--dimensions"):
        from_public(np.zeros((4, 3)), np.zeros(4, int), 1, 4, 1)


def test_without_public_images_the_sum_is_bounded_where_the_search_is(tiny_base):
    base = load_base(tiny_base)
    place = from_vocabulary(base, [None], 2, 16)
    free = whole_space(base, place.anchor, 2).radius
    assert place.radius == free == pytest.approx(4 * 2**0.5 * word_spread(base))
