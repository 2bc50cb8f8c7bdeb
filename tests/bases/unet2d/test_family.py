"""UNet2DModel pipelines, unconditional and told a class, by the checks of every family."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import VQModel

from sfumato.bases import load_base
from tests.bases import tiny_pipelines
from tests.bases.family_checks import (
    Rows,
    Start,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    pipeline,
)

TOLD = {"ddpm_classes", "ldm_classes"}
CLASSES = {"ddpm_classes": ["circle", "cross", "great star"], "ldm_classes": ["class0", "class2"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    kinds = ("ddpm", "ddim_v", "ddpm_sample", "ldm_vq", "ldm_kl", *sorted(TOLD))
    return {kind: tiny_pipelines.PIPELINES[kind](place / kind) for kind in kinds}


def rows_of_table(pipe: Any, prompts: list[str]) -> Any:
    """Class labels of prompts in plain diffusers; what stands for no class is put into its table:
    the null row, or the mean of all.
    """
    if pipe.unet.class_embedding is None:
        return None
    index = json.loads((pipe.config["_name_or_path"] / "model_index.json").read_text())
    count = pipe.unet.config.num_class_embeds
    names = index.get("id2label", {str(i): f"class{i}" for i in range(count)})
    found = {name.split(",")[0]: int(row) for row, name in names.items()}
    if "" not in found:
        table = pipe.unet.class_embedding.weight.data[:count]
        pipe.unet.class_embedding.weight.data = torch.cat([table, table.mean(0, keepdim=True)])
        found[""] = count
    return torch.tensor([found[prompt] for prompt in prompts])


def published(pipe: Any, rows: Rows) -> torch.Tensor:
    """As in diffusers' examples/unconditional_image_generation; v as its text-to-image's."""
    latents = rows.pixels
    if hasattr(pipe, "vqvae"):
        found = pipe.vqvae.encode(rows.pixels)
        if hasattr(found, "latents"):
            latents = found.latents * pipe.vqvae.config.scaling_factor
        else:
            posterior = found.latent_dist
            latents = posterior.mean + posterior.std * rows.latent_noise
            latents = latents * pipe.vqvae.config.scaling_factor
    elif pipe.unet.config.in_channels == 1:
        share = torch.tensor([0.299, 0.587, 0.114])
        latents = torch.einsum("rchw,c->rhw", rows.pixels, share)[:, None]
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    told = rows_of_table(pipe, rows.prompts)
    predicted = pipe.unet(noisy, rows.time, told).sample
    kind = pipe.scheduler.config.prediction_type
    target = {
        "epsilon": rows.noise,
        "sample": latents,
        "v_prediction": pipe.scheduler.get_velocity(latents, rows.noise, rows.time),
    }[kind]
    return (predicted - target).pow(2).mean((1, 2, 3))


def draw(pipe: Any, start: Start) -> np.ndarray:
    """The pipeline itself; one that is told classes has none in diffusers, so its loop is here."""
    if pipe.unet.class_embedding is None:
        # LDMPipeline hands no generator to its scheduler, and these take none
        drawn = pipe(
            len(start.prompts), generator=start.fresh, num_inference_steps=start.steps,
            output_type="np",
        ).images  # fmt: skip
        return np.repeat(drawn, 3, -1) if drawn.shape[-1] == 1 else drawn
    told, empty = (
        rows_of_table(pipe, names) for names in (start.prompts, [""] * len(start.prompts))
    )
    x = start.latents
    extra = {"generator": start.generators} if "DDPM" in type(pipe.scheduler).__name__ else {}
    for t in pipe.scheduler.timesteps:
        predicted = pipe.unet(x, t, told).sample
        if start.guidance_scale != 1:
            none = pipe.unet(x, t, empty).sample
            predicted = none + start.guidance_scale * (predicted - none)
        x = pipe.scheduler.step(predicted, t, x, **extra).prev_sample
    if hasattr(pipe, "vqvae"):
        x = pipe.vqvae.decode(x / pipe.vqvae.config.scaling_factor).sample
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    "kind", ["ddpm", "ddim_v", "ddpm_sample", "ldm_vq", "ldm_kl", "ddpm_classes", "ldm_classes"]
)
def test_the_objective(folders, kind):
    check_objective(folders[kind], CLASSES.get(kind, ["picture"]), published)


@pytest.mark.parametrize(
    ("kind", "guidance_scale"),
    [
        ("ddpm", 1.0),
        ("ddim_v", 1.0),
        ("ddpm_sample", 1.0),
        ("ldm_vq", 1.0),
        ("ldm_kl", 1.0),
        ("ddpm_classes", 1.0),
        ("ddpm_classes", 3.0),
        ("ldm_classes", 3.0),
    ],
)
def test_pictures(folders, kind, guidance_scale, monkeypatch):
    if kind == "ldm_classes":
        # a rounding of 1e-6, tripled by guidance, may choose another entry of the codebook
        decode = VQModel.decode
        monkeypatch.setattr(VQModel, "decode", lambda vq, h: decode(vq, h, force_not_quantize=True))
    prompts = CLASSES.get(kind, ["picture", "picture"])
    base, pipe = load_base(folders[kind]), pipeline(folders[kind])
    drawn = check_sampling(base, pipe, prompts, draw, guidance_scale=guidance_scale)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        pytest.param("ddpm", "full", marks=pytest.mark.slow),
        pytest.param("ddim_v", "attention", marks=pytest.mark.slow),
        pytest.param("ddpm_sample", "full", marks=pytest.mark.slow),
        pytest.param("ldm_vq", "attention", marks=pytest.mark.slow),
        pytest.param("ldm_kl", "full", marks=pytest.mark.slow),
        pytest.param("ddpm_classes", "full", marks=pytest.mark.slow),
        pytest.param("ldm_classes", "attention", marks=pytest.mark.slow),
    ],
)
def test_a_run_and_what_it_saves(folders, kind, method, tiny_images, tmp_path):
    words = [] if kind in TOLD else ["--unlabelled"]
    images = tiny_images if kind in TOLD else tiny_images / "circle"
    run = adapt(folders[kind], images, tmp_path / "run", method, *words)
    check_output(run, folders[kind], draw)
    index = json.loads((run.model / "model_index.json").read_text())
    before = json.loads((folders[kind] / "model_index.json").read_text())
    assert index["_class_name"] == before["_class_name"]
