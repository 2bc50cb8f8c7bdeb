"""Pixels and latents of a picture are its own, whatever is encoded beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.bases import base_info, load_base
from sfumato.errors import ModelError
from tests.bases import tiny_pipelines
from tests.bases.test_open import edit


@pytest.fixture(scope="module", params=["ddpm", "ddpm_sample", "ldm_vq", "ldm_kl"])
def folder(request, tmp_path_factory):
    return tiny_pipelines.PIPELINES[request.param](tmp_path_factory.mktemp("codec") / "base")


def test_a_picture_is_encoded_as_if_it_were_alone(folder):
    base = load_base(folder)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    images[1] //= 8  # a dark one beside bright ones
    together = base.encode(images)
    for i in range(3):
        for whole, own in zip(together, base.encode(images[i : i + 1]), strict=True):
            torch.testing.assert_close(whole[i : i + 1], own, rtol=1e-5, atol=1e-5)
    quantized = type(base.codec).__name__ != "Posterior"  # pyright: ignore[reportAttributeAccessIssue]
    assert bool(together[1].any()) != quantized
    assert base.decode(together[0]).shape == images.shape


def test_pixels_come_back_as_they_were_and_grey_ones_grey(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    base = load_base(tiny_pipelines.ddpm(tmp_path / "colour"))
    assert (base.decode(base.encode(images)[0]) == images).all()
    base = load_base(tiny_pipelines.ddpm_sample(tmp_path / "grey"))
    grey = base.decode(base.encode(images)[0])
    assert (np.ptp(grey, -1) == 0).all()
    assert np.abs(grey[..., 0] - images @ np.array([0.299, 0.587, 0.114])).max() <= 0.6


@pytest.mark.parametrize(
    ("kind", "file", "fields", "match"),
    [
        ("ddpm", "unet/config.json", {"out_channels": 6}, "gives 6: a learned variance"),
        ("ddpm", "unet/config.json", {"in_channels": 4, "out_channels": 4}, "pixels have 1 or 3"),
        ("ddpm", "unet/config.json", {"sample_size": [16, 8]}, "sample_size is no number"),
        (
            "ddpm",
            "unet/config.json",
            {"class_embed_type": "timestep"},
            "class_embed_type timestep",
        ),
        ("ddpm", "unet/config.json", {"num_class_embeds": 7}, "no weights for class_embedding"),
        (
            "ddpm",
            "scheduler/scheduler_config.json",
            {"prediction_type": "x"},
            "predicts x;",
        ),
        ("ldm_vq", "vqvae/config.json", {"latent_channels": 4}, "its autoencoder gives 4"),
        ("ldm_vq", "vqvae/config.json", {"block_out_channels": []}, "not those of such models"),
        ("dit", "transformer/config.json", {"out_channels": 5}, "do not fit"),
        ("dit", "transformer/config.json", {"num_embeds_ada_norm": 10}, "does not load"),
        (
            "dit",
            "scheduler/scheduler_config.json",
            {"prediction_type": "sample"},
            "predicts sample",
        ),
        ("dit", "model_index.json", {"id2label": {"2000": "cat"}}, "does not name 1001 rows"),
        ("dit", "model_index.json", {"vae": ["diffusers", "VQModel"]}, "vae of .* is a VQModel"),
        ("ddpm_classes", "model_index.json", {"id2label": [1]}, "does not name 5 rows"),
    ],
)
def test_what_lies_about_itself_is_refused_in_one_line(tmp_path, kind, file, fields, match):
    folder = tiny_pipelines.PIPELINES[kind](tmp_path / "base")
    edit(folder / file, **fields)
    with pytest.raises(ModelError, match=match) as said:
        base_info(folder) and load_base(folder)
    assert "\n" not in str(said.value)
