"""DiT by the checks of every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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

CLASSES = ["circle", "cross", "square"]
NULL = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_pipelines.dit(tmp_path_factory.mktemp("pipelines") / "dit")


def ids(pipe: Any, prompts: list[str]) -> list[int]:
    """Class ids as diffusers' own pipeline finds them in the names of its index."""
    return [pipe.get_label_ids([prompt])[0] if prompt else NULL for prompt in prompts]


def published(pipe: Any, rows: Rows) -> torch.Tensor:
    """The simple loss of section 3.1 (as in DiT's diffusion code); of the eight channels the first
    four are the noise.
    """
    posterior = pipe.vae.encode(rows.pixels).latent_dist
    latents = posterior.mean + posterior.std * rows.latent_noise
    latents = latents * pipe.vae.config.scaling_factor
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    told = torch.tensor(ids(pipe, rows.prompts))
    predicted = pipe.transformer(noisy, rows.time, told).sample
    return (predicted[:, :4] - rows.noise).pow(2).mean((1, 2, 3))


def draw(pipe: Any, start: Start) -> np.ndarray:
    return pipe(
        ids(pipe, start.prompts),
        guidance_scale=start.guidance_scale,
        generator=start.fresh,
        num_inference_steps=start.steps,
        output_type="np",
    ).images


def test_the_objective(folder):
    check_objective(folder, CLASSES, published)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_pictures(folder, guidance_scale):
    base, pipe = load_base(folder), pipeline(folder)
    drawn = check_sampling(base, pipe, CLASSES, draw, guidance_scale=guidance_scale)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["attention", "full"])
def test_a_run_and_what_it_saves(folder, tiny_images, tmp_path, method):
    run = adapt(folder, tiny_images, tmp_path / "run", method)
    check_output(run, folder, draw)
    check_output(run, folder, draw, guidance_scale=3.0)


@pytest.mark.slow
def test_a_new_class_leaves_the_null_class_where_diffusers_looks_for_it(
    folder, tiny_images, tmp_path
):
    """`--init` gives a class a row of its own, after the null row; guidance still finds that."""
    run = adapt(folder, tiny_images, tmp_path / "run", "attention", "--init", "circle=great star")
    told = dict(zip(run.plan.classes, run.plan.prompts))
    assert told == {"circle": "<circle>", "cross": "cross", "square": "square"}
    names = json.loads((run.model / "model_index.json").read_text())["id2label"]
    assert names["1001"] == "<circle>" and names["1000"] == ""
    before, after = load_base(folder).table, load_base(run.model).table
    assert after.null == NULL and len(after.rows) == NULL + 2
    assert torch.allclose(after.rows[: NULL + 1], before.rows, atol=1e-3)
    assert not torch.allclose(after.rows[NULL + 1], before.rows[3], atol=1e-3)
    check_output(run, folder, draw, guidance_scale=3.0)
