"""Buckets: in each size a family is trained and drawn as diffusers does it in that size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.bases import load_base
from sfumato.errors import ModelError
from sfumato.options import Sampling
from sfumato.synthesis.sampler import Sampler
from tests.bases.family_checks import check_objective, check_sampling, pipeline
from tests.bases.text_families import EACH, TEXT

PROMPTS = ["a picture of a circle", "cross"]
QUICK = ("stable_diffusion_xl", "stable_diffusion_3", "flux")
FolderOf = Callable[[str], Path]


def shapes(name: str) -> list[tuple[int, int]]:
    """Width and height: wide, and high; SanaPipeline draws multiples of 32 pixels."""
    return [(64, 32), (32, 64)] if name == "sana" else [(32, 16), (16, 32)]


def marked(names: tuple[str, ...]) -> list[object]:
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for name in names
    ]


@pytest.mark.parametrize("name", marked(EACH))
def test_row_losses_are_the_published_objective_in_every_size(
    name: str, folder_of: FolderOf
) -> None:
    for size in shapes(name):
        check_objective(folder_of(name), PROMPTS, TEXT[name].loss, size=size)


DYNAMIC = ("lumina_2_dynamic", "z_image_dynamic")  # their shift follows the size


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", marked((*EACH, *DYNAMIC)))
def test_pictures_of_every_size_are_those_of_the_pipeline(
    name: str, guidance: float, folder_of: FolderOf
) -> None:
    base = load_base(folder_of(name))
    for size in shapes(name):
        base.use_buckets([size])
        drawn = check_sampling(
            base, pipeline(folder_of(name)), PROMPTS, TEXT[name].draw, guidance_scale=guidance
        )
        assert drawn.shape[1:3] == size[::-1]


@pytest.mark.parametrize("name", marked(EACH))
def test_a_picture_among_several_sizes_is_that_of_its_size_alone(
    name: str, folder_of: FolderOf
) -> None:
    """Times are shifted by the size of the picture, not by that of the first."""
    base, sizes = load_base(folder_of(name)), shapes(name)
    sampling, index = Sampling(scheduler=base.own_sampler, steps=3), np.arange(4)
    square = (base.resolution, base.resolution)
    base.use_buckets([square, sizes[0]])
    mixed = Sampler(base, PROMPTS, sampling).draw_in_sizes(index % 2, index)
    base.use_buckets([sizes[0]])
    alone = Sampler(base, PROMPTS, sampling).draw(index[1::2] % 2, index[1::2])
    assert all(np.array_equal(mixed[1 + 2 * i], picture) for i, picture in enumerate(alone))
    assert [found.shape[:2] for found in mixed] == [square, sizes[0][::-1]] * 2


def test_a_shift_by_size_follows_the_bucket(folder_of: FolderOf) -> None:
    base = load_base(folder_of("flux"))
    base.use_buckets([(16, 16), (32, 64)])
    small, large = (base.at(size).sampler(base.own_sampler, 4).timesteps for size in base.sizes)
    assert base.buckets == ((16, 16), (32, 64)) and not torch.equal(small, large)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("stable_diffusion_3", (16, 48), "takes sides of at most 32 pixels"),
        ("z_image", (16, 256), "takes sides of at most 128 pixels"),
        ("lumina_2", (256, 16), "takes sides of at most 128 pixels"),
        ("flux", (18, 16), "takes multiples of 4 pixels"),
        ("flux2_klein", (18, 16), "takes multiples of 4 pixels"),
        ("stable_diffusion_xl", (18, 16), "takes multiples of 4 pixels"),
        ("sana", (34, 32), "takes multiples of 4 pixels"),
        ("dit", (16, 32), "a dit base takes its own size alone"),
        ("ddpm", (16, 32), "takes its own size alone"),
        ("ldm_vq", (16, 32), "takes its own size alone"),
    ],
)
def test_sizes_that_a_family_does_not_take_are_refused(
    name: str, size: tuple[int, int], said: str, folder_of: FolderOf
) -> None:
    with pytest.raises(ModelError, match=said) as error:
        load_base(folder_of(name)).use_buckets([size])
    assert "\n" not in str(error.value) and "--buckets" in str(error.value)
