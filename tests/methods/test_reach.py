"""Tensors that nothing can teach are left out by the plan, named, and stay out on a resume."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.bases import FAMILIES, Base, load_base
from sfumato.errors import Interrupted
from sfumato.methods import METHODS, Given, Prompts, reach
from sfumato.methods.prepared import prepare_again
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.privacy.plan import Plan
from sfumato.runs.folder import Run
from tests.helpers import task_of

OPTIONS = {
    "epsilon": 8.0,
    "delta": 1e-2,
    "steps": 2,
    "expected_batch_size": 8,
    "allow_large_delta": True,
}


@pytest.fixture
def pixels(monkeypatch, tmp_path):
    """A UNet2DModel on pixels, whose keys have biases: their gradient is zero under a softmax."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    monkeypatch.setitem(FAMILIES, "DDPMPipeline", None)
    example = Path(__file__).parents[2] / "examples" / "family.py"
    family = runpy.run_path(str(example))["PixelDiffusion"]
    monkeypatch.setattr(family, "learnable", Base.learnable)  # which the example has filtered
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=8,
        )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "base", safe_serialization=True)
    return tmp_path / "base"


def biases(folder) -> set[str]:
    denoiser = load_base(folder).denoiser
    return {f"unet.{n}" for n, _ in denoiser.named_parameters() if n.endswith("to_k.bias")}
