"""Stable Diffusion by the checks that every family passes."""

from __future__ import annotations

import pytest

from sfumato.bases import KOHYA_FILE, load_base, open_adapted, write_kohya
from tests.bases.family_checks import (
    CAPTIONS,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    draw,
    pipeline,
)
from tests.bases.published_unets import stable_diffusion

PROMPTS = ["a picture of a circle", "cross", "square"]


def test_the_objective(tiny_base):
    check_objective(tiny_base, PROMPTS, stable_diffusion, captions=CAPTIONS)


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
