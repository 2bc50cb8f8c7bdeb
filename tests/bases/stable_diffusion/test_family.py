"""Stable Diffusion by the checks that every family passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfumato.bases import KOHYA_FILE, load_base, open_adapted, write_kohya
from tests.bases.family_checks import (
    Rows,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    draw,
    pipeline,
)

PROMPTS = ["a picture of a circle", "cross", "square"]


def published(pipe: Any, rows: Rows) -> torch.Tensor:
    """As in diffusers' examples/text_to_image: mean squared error of the scheduler's target."""
    posterior = pipe.vae.encode(rows.pixels).latent_dist
    latents = posterior.mean + posterior.std * rows.latent_noise
    latents = latents * pipe.vae.config.scaling_factor
    ids = pipe.tokenizer(rows.prompts, padding="max_length", truncation=True, return_tensors="pt")
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    text = pipe.text_encoder(ids.input_ids).last_hidden_state
    predicted = pipe.unet(noisy, rows.time, text).sample
    target = pipe.scheduler.get_velocity(latents, rows.noise, rows.time)
    return (predicted - target).pow(2).mean((1, 2, 3))


def test_the_objective(tiny_base):
    check_objective(tiny_base, PROMPTS, published)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_pictures(tiny_base, guidance_scale):
    base, pipe = load_base(tiny_base), pipeline(tiny_base)
    drawn = check_sampling(base, pipe, PROMPTS, draw, guidance_scale=guidance_scale)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_a_run_and_what_it_saves(tiny_base, tiny_images, tmp_path, method):
    run = adapt(tiny_base, tiny_images, tmp_path / "run", method, "--no-embedder")
    check_output(run, tiny_base, draw)
    if method == "lora":
        # under the names of other programs, as diffusers' converter reads them
        write_kohya(run.model, tmp_path)
        pipe = pipeline(tiny_base)
        pipe.load_lora_weights(tmp_path, weight_name=KOHYA_FILE)
        adapted = open_adapted(run.model, lambda: load_base(tiny_base))
        drawn = check_sampling(adapted, pipe, run.plan.prompts, draw)
        before = check_sampling(load_base(tiny_base), pipeline(tiny_base), run.plan.prompts, draw)
        assert (drawn != before).any()
