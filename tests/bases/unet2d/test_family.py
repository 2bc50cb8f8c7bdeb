"""UNet2DModel pipelines, unconditional and told a class, by the checks of every family."""

from __future__ import annotations

import json

import pytest
from diffusers import VQModel

from sfumato.bases import load_base
from tests.bases import published_classes, tiny_pipelines
from tests.bases.family_checks import (
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


@pytest.mark.parametrize(
    "kind", ["ddpm", "ddim_v", "ddpm_sample", "ldm_vq", "ldm_kl", "ddpm_classes", "ldm_classes"]
)
def test_the_objective(folders, kind):
    check_objective(folders[kind], CLASSES.get(kind, ["picture"]), published_classes.unet2d)


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
    drawn = check_sampling(
        base, pipe, prompts, published_classes.draw_unet2d, guidance_scale=guidance_scale
    )
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
    check_output(run, folders[kind], published_classes.draw_unet2d)
    index = json.loads((run.model / "model_index.json").read_text())
    before = json.loads((folders[kind] / "model_index.json").read_text())
    assert index["_class_name"] == before["_class_name"]
