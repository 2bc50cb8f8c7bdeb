"""Families of transformers, each on its tiny random pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.bases import base_info, load_base
from sfumato.bases.conditioning import tensors
from sfumato.cli import main
from sfumato.errors import ModelError
from tests.bases.family_checks import (
    CAPTIONS,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    pipeline,
    refused,
)
from tests.bases.published import PUBLISHED, draw
from tests.pasted import draw_as_pasted, pixels

PROMPTS = ["a picture of a circle", "cross"]
FAMILIES = list(PUBLISHED)
# One of each family runs through the command line; the others differ in their parts alone.
ADAPTED = ["stable_diffusion_3", "flux", "sana", "flux2_klein"]
TRAINED = ["pixart_sigma", *ADAPTED]


@pytest.mark.parametrize("name", FAMILIES)
def test_row_losses_are_the_published_objective(name: str, folder_of: Any) -> None:
    check_objective(folder_of(name), PROMPTS, PUBLISHED[name], captions=CAPTIONS)


@pytest.mark.parametrize(
    ("name", "guidance"),
    [*((name, 3.0) for name in (*FAMILIES, "flux2_klein_distilled")),
     *((name, 1.0) for name in TRAINED)],
)  # fmt: skip
def test_pictures_are_those_of_the_pipeline(name: str, guidance: float, folder_of: Any) -> None:
    folder = folder_of(name)
    check_sampling(load_base(folder), pipeline(folder), PROMPTS, draw, guidance_scale=guidance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "lora") for name in ADAPTED), ("stable_diffusion_3", "attention"),
     ("pixart_sigma", "attention"), ("sana", "full")],
)  # fmt: skip
def test_a_noised_run_opens_in_plain_diffusers(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path
) -> None:
    run = adapt(folder_of(name), tiny_images, tmp_path / "run", method)
    # a whole pipeline is saved in half precision, and read so by both
    check_output(run, folder_of(name), draw, guidance_scale=2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [("flux", "full"), ("flux", "saliency"), ("flux", "loda"), ("pixart_sigma", "full"),
     ("sana", "loda"), ("stable_diffusion_3", "full")],
)  # fmt: skip
def test_other_methods_run(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path
) -> None:
    assert adapt(folder_of(name), tiny_images, tmp_path / "run", method).model.is_dir()


@pytest.mark.slow
def test_a_pipeline_with_a_language_model_leaves_whole(
    folder_of: Any, tiny_images: Path, tmp_path: Path
) -> None:
    """Its chat template and generation settings are among what a release may hold."""
    run, out = tmp_path / "run", tmp_path / "out"
    adapt(folder_of("flux2_klein"), tiny_images, run, "attention")
    assert main(["export", str(run), "-o", str(out)]) == 0
    assert main(["release", str(out)]) == 0 and main(["verify", str(out)]) == 0
    assert (out / "model" / "tokenizer" / "chat_template.jinja").is_file()
    name, drawn = draw_as_pasted(out, folder_of("flux2_klein"), tmp_path)
    assert np.abs(drawn - pixels(out / name)).max() <= 1


@pytest.mark.parametrize("method", ["lora", "saliency", "loda"])
def test_a_family_without_adapters_refuses_them_before_any_charge(
    method: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    said = refused(folder_of("pixart_sigma"), tiny_images, run, "--method", method, capsys=capsys)
    assert "a pixart-sigma base has no file format for adapters" in said


@pytest.mark.parametrize("method", ["embedding", "inversion"])
@pytest.mark.parametrize("name", ["flux"])
def test_methods_that_teach_tokens_are_refused_before_any_charge(
    name: str, method: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    said = refused(folder_of(name), tiny_images, run, "--method", method, capsys=capsys)
    assert said.startswith("11: ") and "has no tokens that can be taught" in said


@pytest.mark.parametrize("name", ["stable_diffusion_3", "sana"])
def test_a_missing_text_encoder_is_refused(
    name: str, folder_of: Any, tiny_images: Path, tmp_path: Path, capsys: Any
) -> None:
    bad = shutil.copytree(folder_of(name), tmp_path / "bad")
    shutil.rmtree(bad / "text_encoder")
    said = refused(bad, tiny_images, tmp_path / "run", "--method", "lora", capsys=capsys)
    assert said.startswith("11: ") and "has no text_encoder" in said


@pytest.mark.parametrize(
    ("name", "part", "settings", "words"),
    [
        ("stable_diffusion_3", "transformer", {"in_channels": 8}, "takes 8 channels"),
        ("stable_diffusion_3", "transformer", {"sample_size": None}, "sample_size is no number"),
        ("flux", "transformer", {"in_channels": 64}, "takes 64 channels"),
        ("flux", "vae", {"sample_size": 18}, "not in whole patches"),
        ("pixart_sigma", "scheduler", {"prediction_type": "sample"}, "predicts sample"),
        ("sana", "vae", {"encoder_block_out_channels": 4}, "not those of such models"),
        ("flux2_klein", "vae", {"latent_channels": 8}, "its autoencoder gives 32"),
    ],
)
def test_settings_that_do_not_fit_are_refused_without_weights(
    name: str, part: str, settings: dict[str, Any], words: str, folder_of: Any, tmp_path: Path
) -> None:
    bad = shutil.copytree(folder_of(name), tmp_path / "bad")
    edit(bad, part, settings)
    with pytest.raises(ModelError, match=words) as caught:
        base_info(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "part", "settings", "words"),
    [
        ("pixart_sigma", "transformer", {"use_additional_conditions": True}, "."),
        ("sana", "scheduler", {"prediction_type": "epsilon"}, "is set to no flow"),
        ("pixart_sigma", "scheduler", {"num_train_timesteps": 10}, "no variance-preserving"),
        ("flux", "text_encoder_2", {"d_model": 16}, "."),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    name: str, part: str, settings: dict[str, Any], words: str, folder_of: Any, tmp_path: Path
) -> None:
    bad = shutil.copytree(folder_of(name), tmp_path / "bad")
    edit(bad, part, settings)
    with pytest.raises(ModelError, match=words) as caught:
        load_base(bad)
    assert "\n" not in str(caught.value)


def test_a_flow_family_with_another_scheduler_is_refused(folder_of: Any, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler

    bad = shutil.copytree(folder_of("flux"), tmp_path / "bad")
    shutil.rmtree(bad / "scheduler")
    DDPMScheduler().save_pretrained(bad / "scheduler")
    index = bad / "model_index.json"
    said = json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDPMScheduler"]}
    index.write_text(json.dumps(said))
    with pytest.raises(ModelError, match="come with a FlowMatchEulerDiscreteScheduler"):
        load_base(bad)


def test_dev_is_told_the_guidance_scale_and_schnell_is_not(folder_of: Any) -> None:
    dev, schnell = load_base(folder_of("flux")), load_base(folder_of("flux_schnell"))
    assert dev.embeds_guidance and not schnell.embeds_guidance
    for base, changes in ((dev, True), (schnell, False)):
        told, noise = base.condition(["circle"]), torch.randn(1, *base.latent_shape)
        one, two = (
            base.make_denoise(scale)(noise, torch.tensor(500.0), told, {}) for scale in (1.0, 9.0)
        )
        assert torch.equal(one, two) != changes


@pytest.mark.parametrize("name", TRAINED)
def test_a_picture_and_a_prompt_are_read_alone(name: str, folder_of: Any) -> None:
    """What one row becomes does not depend on the rows beside it."""
    base = load_base(folder_of(name))
    side = base.resolution
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    mean, std = base.encode(images)
    alone = base.encode(images[1:2])
    assert torch.allclose(mean[1:2], alone[0], atol=1e-5)
    assert torch.allclose(std[1:2], alone[1], atol=1e-5)
    told = tensors(base.condition(["cross", "a picture of a circle", ""]))
    for part, one in tensors(base.condition(["a picture of a circle"])).items():
        assert torch.allclose(told[part][1:2].float(), one.float(), atol=1e-5)
    noisy, time = torch.randn(3, *base.latent_shape), torch.tensor([3, 400, 900])
    with torch.no_grad():
        whole = base.predict(noisy, time, told if "" not in told else told[""])
        row = {part: numbers[1:2] for part, numbers in told.items()}
        single = base.predict(noisy[1:2], time[1:2], row if "" not in row else row[""])
    assert torch.allclose(whole[1:2], single, atol=1e-5)


def edit(folder: Path, part: str, settings: dict[str, Any]) -> None:
    """Changes a component's settings."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    file = folder / part / name
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
