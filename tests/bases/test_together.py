"""Pictures pass an autoencoder few at a time where they are large, cut by their place alone."""

from __future__ import annotations

import numpy as np
import torch

from sfumato.bases import load_base
from sfumato.bases.together import few_together, pictures_together


def test_how_many_follows_from_the_size_alone():
    assert [pictures_together(side, side) for side in (32, 256, 512, 1024)] == [256, 4, 1, 1]
    assert pictures_together(1024, 64) == 4


def test_no_more_pass_than_that_and_in_their_order():
    passed = []

    @few_together
    def encode(owner: str, images: np.ndarray, more: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert (owner, more) == ("owner", 3)
        passed.append(len(images))
        numbers = torch.from_numpy(images[:, 0, 0, 0].astype(np.float32))
        return numbers, -numbers

    images = np.zeros((10, 256, 256, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(10)
    mean, deviation = encode("owner", images, 3)
    assert passed == [4, 4, 2]
    assert mean.tolist() == list(range(10)) and torch.equal(deviation, -mean)


def test_a_base_draws_few_large_pictures_together(tiny_base, monkeypatch):
    base = load_base(tiny_base)
    assert base.together == 1024  # of 16 x 16
    monkeypatch.setattr("sfumato.bases.together.PIXELS", 3 * 16 * 16)
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    passed, encode = [], base.vae.encode
    monkeypatch.setattr(base.vae, "encode", lambda x: passed.append(len(x)) or encode(x))
    mean, _ = base.encode(images)
    assert passed == [3, 3, 1] and len(mean) == 7 and base.together == 3
