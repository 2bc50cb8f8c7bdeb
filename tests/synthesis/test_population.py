"""Pictures of a population: members as they are, in any shard, and beyond them variations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.bases import load_base, load_population, save_population
from sfumato.errors import ModelError
from sfumato.options import Sampling
from sfumato.synthesis.dataset import class_of_each
from sfumato.synthesis.population import Population, places


def drawn(base, latents, n, numbers=None):
    labels = class_of_each(n, [1, 1])
    numbers = np.arange(n) if numbers is None else numbers
    draw = Population(latents, 0.5)
    parts = list(draw(base, ["circle", "cross"], labels, numbers, Sampling(steps=2)))
    return labels, np.concatenate([images for _, images in parts])


def test_members_come_first_and_further_pictures_vary_them(whole_tiny_base):
    base = load_base(whole_tiny_base)
    latents = torch.randn(2, 3, *base.latent_shape)
    labels, images = drawn(base, latents, 10)
    images = images.astype(int)
    for number in range(6):
        member = latents[labels[number], number // 2]
        alone = base.decode(member[None])[0]
        assert np.abs(images[number] - alone).max() <= 1  # kernels of several round otherwise
    for number in range(6, 10):
        assert np.abs(images[number] - images[number - 6]).max() > 10
    # a shard draws the same pictures
    _, odd = drawn(base, latents, 10, np.arange(1, 10, 2))
    assert np.abs(odd - images[1::2]).max() <= 1


def test_places_count_within_a_class():
    assert places(np.array([0, 1, 0, 2, 1, 0])).tolist() == [0, 0, 1, 0, 1, 2]


def test_a_population_that_does_not_read_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not read"):
        load_population(tmp_path)
    (tmp_path / "population.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not read"):
        load_population(tmp_path)
    save_population(tmp_path, torch.ones(2, 3, 4, 2, 2), 0.3)
    latents, strength = load_population(tmp_path)
    assert latents.shape == (2, 3, 4, 2, 2) and strength == 0.3
