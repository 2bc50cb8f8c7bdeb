"""Checkpoints in one file: the names of latent-diffusion's own programs, and back by diffusers."""

from __future__ import annotations

import re
import shutil
import socket

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.bases.loading import stored_formats
from sfumato.cli import main
from sfumato.errors import ModelError
from sfumato.options import Sampling
from sfumato.synthesis.sampler import Sampler

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
}
# of the tiny base: two levels, one layer each, attention in the inner one
BLOCKS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
}


def of_unet(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in UNET:
        return f"model.diffusion_model.{UNET[module]}.{kind}"
    for block, place in BLOCKS.items():
        if name.startswith(block + "."):
            rest = module[len(block) + 1 :]
            rest = RESNET.get(rest, rest) if ".resnets." in block else rest
            return f"model.diffusion_model.{place}.{rest}.{kind}"
    raise KeyError(name)


def of_vae(name: str) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.", lambda found: f"up.{1 - int(found[1])}.block.", name
    )
    name = re.sub(
        r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{1 - int(found[1])}.upsample", name
    )
    return f"first_stage_model.{name}"


def of_text(name: str) -> str:
    name = name if name.startswith("text_model.") else f"text_model.{name}"
    return f"cond_stage_model.transformer.{name}"


@pytest.fixture
def world(tiny_base, tmp_path):
    """The tiny base as one file, and its settings without weights."""
    whole = {}
    for part, file, rename in (
        ("unet", "diffusion_pytorch_model", of_unet),
        ("vae", "diffusion_pytorch_model", of_vae),
        ("text_encoder", "model", of_text),
    ):
        held = load_file(tiny_base / part / f"{file}.safetensors")
        whole |= {rename(name): tensor.contiguous() for name, tensor in held.items()}
    save_file(whole, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = shutil.copytree(
        tiny_base, tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return tmp_path / "model.safetensors", config


def test_a_checkpoint_in_one_file_becomes_the_same_base(world, tiny_base, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    file, config = world
    folder = tmp_path / "base"
    asked = ["bases", "--copy", str(file), str(folder), "--base-config", str(config)]
    assert main(asked) == 0
    made, own = load_base(folder), load_base(tiny_base)
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(own, part).state_dict()
        for name, tensor in getattr(made, part).state_dict().items():
            assert torch.equal(tensor, theirs[name]), name
    drawn = [
        Sampler(base, ["circle"], Sampling(steps=2)).draw(np.zeros(2, int), np.arange(2))
        for base in (made, own)
    ]
    assert (drawn[0] == drawn[1]).all()


def test_a_checkpoint_in_half_precision_opens_in_diffusers_as_one_of_single_does(world, tmp_path):
    from diffusers import StableDiffusionPipeline

    file, config = world
    halves = {n: t.half() if t.is_floating_point() else t for n, t in load_file(file).items()}
    save_file(halves, file, metadata={"format": "pt"})
    verbs.copy_base(str(file), tmp_path / "base", base_config=config)
    assert stored_formats(tmp_path / "base" / "text_encoder")[0] == {torch.float16}
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    assert pipe.text_encoder.dtype == pipe.unet.dtype == torch.float32
    pipe.set_progress_bar_config(disable=True)
    assert pipe("circle", num_inference_steps=1, output_type="np").images.std() > 0


def test_a_checkpoint_of_another_model_is_refused(world, tmp_path):
    file, config = world
    whole = load_file(file)
    gone = {name: t for name, t in whole.items() if "first_stage" not in name}
    save_file(gone, file, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        verbs.copy_base(str(file), tmp_path / "base", base_config=config)
    assert "\n" not in str(caught.value) and not (tmp_path / "base").exists()
