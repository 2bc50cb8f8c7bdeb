"""Gram matrices and the bounds on what they may be off by."""

from __future__ import annotations

import pytest
import torch

from sfumato.gradients import grams, rules


@pytest.mark.parametrize("n", [256, 257, 272, 300])
def test_squares_from_long_rows_are_upper_bounds(n):
    """Part of a long row is added up in single precision, and counted in the bound."""
    g = torch.Generator().manual_seed(n)
    inputs, grads = (1 + 0.5 * torch.randn(3, n, c, generator=g) for c in (8, 12))
    square, doubt, _ = grams.gram_square(grams.gram(inputs), grams.gram(grads), (8, 12))
    right = (grads.double().transpose(1, 2) @ inputs.double()).flatten(1).square().sum(1)
    assert not doubt.any()
    assert (square >= right).all() and (square <= right * (1 + 1e-4)).all()


@pytest.mark.parametrize(
    ("kernel", "padding", "side", "draws"),
    [(3, 1, (5, 7), 1), (3, 0, (6, 5), 2), (5, 2, (8, 8), 1), ((1, 3), (0, 1), (4, 6), 2)],
)
def test_the_gram_of_patches_is_that_of_unfolded_pictures(kernel, padding, side, draws):
    """In blocks of records, of which the last is shorter."""
    layer = torch.nn.Conv2d(3, 2, kernel, padding=padding, bias=False)
    x = torch.randn(7 * draws, 3, *side, generator=torch.Generator().manual_seed(0))
    patches = rules.columns(layer, x.double(), 7)
    found = grams.input_gram(layer, x, 7)
    assert found.shape == (7, patches.shape[1], patches.shape[1])
    assert torch.allclose(found.double(), patches @ patches.transpose(1, 2), rtol=1e-5, atol=1e-5)
    with pytest.MonkeyPatch.context() as few:
        few.setattr(grams, "CACHED", 2 * (draws * 200) ** 2)
        assert torch.equal(grams.input_gram(layer, x, 7), found)
