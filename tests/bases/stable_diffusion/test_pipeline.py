"""Opening a base: what is taken, and what is refused before anything in it is opened."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from sfumato.bases import bundled_bases, folder_digest, load_base
from sfumato.errors import SfumatoError


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


def edit(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(folder, match):
    with pytest.raises(SfumatoError, match=match) as caught:
        load_base(folder)
    assert "\n" not in str(caught.value) and caught.value.exit_code in (2, 11)


def test_a_pipeline_folder_opens_frozen(base):
    assert (base.latent_shape[1:], base.resolution, base.scheduler.config.prediction_type) == (
        (8, 8),
        16,
        "v_prediction",
    )
    for model in (base.unet, base.vae, base.text_encoder):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        assert all(p.dtype == torch.float32 for p in model.parameters())


def test_nothing_there(tmp_path):
    refused(tmp_path / "none", "no base at")
    refused(tmp_path, "no model_index.json")


def test_an_index_that_is_not_json(copy):
    (copy / "model_index.json").write_text("{")
    refused(copy, "not readable JSON")


def test_another_pipeline(copy):
    edit(copy / "model_index.json", _class_name="AuraFlowPipeline")
    refused(copy, "is a AuraFlowPipeline")


def test_pickled_weights_alone_are_refused(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(
        copy / "unet" / "diffusion_pytorch_model.bin"
    )
    refused(copy, "pickle")


@pytest.mark.parametrize(
    ("component", "value", "match"),
    [
        ("unet", ["diffusers", "UNet2DModel"], "UNet2DModel; sfumato takes UNet2DConditionModel"),
        ("unet", ["my_code", "UNet2DConditionModel"], "does not know"),
        ("text_encoder", ["transformers", "T5EncoderModel"], "T5EncoderModel"),
        ("text_encoder_2", ["transformers", "CLIPTextModel"], "does not know"),
        ("scheduler", ["diffusers", "AutoencoderKL"], "not a diffusers scheduler"),
        ("scheduler", ["pipeline", "MyScheduler"], "does not know"),
        ("unet", [["diffusers"], {"x": 1}], "names no class"),
    ],
)
def test_foreign_components(copy, component, value, match):
    edit(copy / "model_index.json", **{component: value})
    refused(copy, match)


def test_code_of_its_own(copy):
    (copy / "unet" / "modeling.py").write_text("raise SystemExit")
    refused(copy, "code of its own")


@pytest.mark.parametrize(
    "name", ["unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"]
)
def test_a_config_that_asks_for_code(copy, name):
    edit(copy / name, auto_map={"AutoModel": "modeling.Model"})
    refused(copy, "asks for code")


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component(copy, component):
    shutil.rmtree(copy / component)
    refused(copy, f"has no {component}")


def test_weights_that_are_not_finite(copy):
    from safetensors.torch import load_file, save_file

    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    refused(copy, "not finite")


@pytest.mark.parametrize("harm", ["cut", "header", "shape", "missing"])
def test_damaged_weights(copy, harm):
    from safetensors.torch import load_file, save_file

    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "header":
        path.write_bytes((2**63).to_bytes(8, "little") + path.read_bytes()[8:])
    else:
        state = load_file(path)
        name = next(n for n in state if n.endswith("conv_in.weight"))
        if harm == "shape":
            state[name] = state[name][:, :2].contiguous()
        else:
            del state[name]
        save_file(state, path, metadata={"format": "pt"})
    refused(
        copy,
        {"missing": "is incomplete", "shape": "does not load"}.get(
            harm, "not a whole safetensors file"
        ),
    )


def test_a_text_encoder_with_missing_weights(copy):
    from safetensors.torch import load_file, save_file

    path = copy / "text_encoder" / "model.safetensors"
    state = load_file(path)
    state.pop(next(n for n in state if n.endswith("fc1.weight")))
    save_file(state, path, metadata={"format": "pt"})
    refused(copy, "is incomplete")


def test_channels_that_do_not_fit(copy, tmp_path):
    from diffusers import UNet2DConditionModel

    config = json.loads((copy / "unet" / "config.json").read_text())
    shutil.rmtree(copy / "unet")
    UNet2DConditionModel.from_config(config | {"in_channels": 9}).save_pretrained(copy / "unet")
    refused(copy, "9 channels")


def test_a_scheduler_without_a_variance_preserving_schedule(copy):
    from diffusers import FlowMatchEulerDiscreteScheduler

    shutil.rmtree(copy / "scheduler")
    FlowMatchEulerDiscreteScheduler().save_pretrained(copy / "scheduler")
    edit(copy / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    refused(copy, "schedule")


def test_another_number_of_times_and_another_prediction(copy):
    edit(copy / "scheduler" / "scheduler_config.json", num_train_timesteps=100)
    refused(copy, "1000 times")
    edit(
        copy / "scheduler" / "scheduler_config.json",
        num_train_timesteps=1000,
        prediction_type="sample",
    )
    refused(copy, "predicts sample")


def test_the_digest_sees_every_byte_and_name_but_not_the_card(copy):
    first = folder_digest(copy)
    (copy / "README.md").write_text("a card")
    for name in (".DS_Store", "vae/._config.json", "unet/Thumbs.db"):  # left by desktops
        (copy / name).write_bytes(b"x")
    assert folder_digest(copy) == first
    edit(copy / "scheduler" / "scheduler_config.json", steps_offset=0)
    second = folder_digest(copy)
    (copy / "vae" / "config.json").rename(copy / "vae" / "config2.json")
    assert len({first, second, folder_digest(copy)}) == 3


def test_latents_are_those_of_the_pipeline_one_image_at_a_time(base):
    images = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)
    mean, std = base.encode(images)
    assert mean.shape == std.shape == (5, 4, 8, 8) and (std > 0).all()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    expected = base.vae.encode(pixels).latent_dist.mean * base.vae.config.scaling_factor
    assert (mean - expected).abs().max() < 0.05 * expected.abs().max()
    alone = torch.cat([base.encode(images[i : i + 1])[0] for i in range(5)])
    assert (mean - alone).abs().max() < 0.02 * expected.abs().max()
    decoded = base.decode(mean)
    assert decoded.shape == (5, 16, 16, 3) and decoded.dtype == np.uint8


def test_prompts_are_embedded_as_the_pipeline_does(base):

    prompts = ["a picture of a circle", "cross", ""]
    own = base.condition(prompts)
    theirs, _ = base.as_pipeline().encode_prompt(prompts, "cpu", 1, False)
    assert torch.equal(own, theirs)


def test_long_prompts_and_unknown_words(base):
    with pytest.raises(SfumatoError, match="longer than the base's 8 tokens"):
        base.condition(["circle " * 9])
    assert base.unknown_words(["a circle", "a zebra of cross"]) == ["zebra"]


def test_a_scheduler_by_name_keeps_the_bases_schedule(base):
    for name in (
        "DPMSolverMultistepScheduler",
        "DDIMScheduler",
        "EulerAncestralDiscreteScheduler",
        "DDPMScheduler",
    ):
        made = base.sampler(name, 4)
        assert type(made).__name__ == name and made.config.prediction_type == "v_prediction"
        assert torch.equal(made.alphas_cumprod, base.scheduler.alphas_cumprod)
    for name in (
        "Nonsense",
        "NonsenseScheduler",
        "AutoencoderKL",
        "FlowMatchEulerDiscreteScheduler",
        "SchedulerMixin",
    ):
        with pytest.raises(SfumatoError, match="choose one of"):
            base.sampler(name, 4)


@pytest.mark.parametrize("name", ("glyphs", "letters", "icons", "things"))
def test_the_lines_of_a_bundled_card_draw_a_picture(name):
    """Weights are stored in half precision, and parts opened without a dtype do not fit
    together.
    """
    folder = bundled_bases()[name]
    lines = [
        line.strip()
        for line in (folder / "README.md").read_text().splitlines()
        if line.startswith("    ")
    ]
    scope: dict = {}
    exec("\n".join(lines[:3]).replace("PATH OF THIS FOLDER", str(folder)), scope)
    scope["pipe"].set_progress_bar_config(disable=True)
    picture = scope["pipe"](
        "a", num_inference_steps=1, guidance_scale=1.0, output_type="np"
    ).images[0]
    side = 64 if name == "things" else 32
    assert picture.shape == (side, side, 3) and np.isfinite(picture).all()
