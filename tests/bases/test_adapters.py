"""Adapters and pipelines in the layouts that diffusers opens where sfumato is not installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

from sfumato.bases import (
    LORA_FILE,
    add_lora,
    load_base,
    load_lora,
    save_lora,
)
from sfumato.bases.unets import PROJECTIONS
from sfumato.errors import SfumatoError
from sfumato.methods.targets import matching_modules

BLOCKER = """
    import os, sys
    os.environ["HF_HUB_OFFLINE"] = "1"

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "sfumato":
                raise ImportError("sfumato cannot be imported here")

    sys.meta_path.insert(0, Blocker())
    try:
        import sfumato
    except ImportError:
        pass
    else:
        raise SystemExit("the blocker does not block")
    import torch
    from diffusers import StableDiffusionPipeline
"""


def alone(script: str, *arguments) -> str:
    command = [
        sys.executable,
        "-I",
        "-c",
        textwrap.dedent(BLOCKER) + textwrap.dedent(script),
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def adapted(tiny_base):
    """A base with a LoRA whose B is not zero, and what its denoiser then says."""
    base = load_base(tiny_base)
    torch.manual_seed(0)
    add_lora(base, matching_modules(base, PROJECTIONS), 2, 4.0)
    with torch.no_grad():
        for name, p in base.unet.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.5)
    return base


def predict(base):
    g = torch.Generator().manual_seed(1)
    x, c = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 8, 16, generator=g)
    with torch.no_grad():
        return base.unet(x, torch.tensor([5, 500]), c).sample


def test_a_saved_lora_merges_into_the_same_denoiser(adapted, tiny_base, tmp_path):
    expected = predict(adapted)
    save_lora(adapted, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [LORA_FILE]
    fresh = load_base(tiny_base)
    plain = predict(fresh)
    load_lora(fresh, tmp_path)
    assert (expected - plain).abs().max() > 1e-2
    assert torch.allclose(predict(fresh), expected, atol=1e-4)
    assert not any("lora" in name for name, _ in fresh.unet.named_parameters())
    assert not any(p.requires_grad for p in fresh.unet.parameters())


def test_a_folder_without_a_lora(tiny_base, tmp_path):
    with pytest.raises(SfumatoError, match=LORA_FILE):
        load_lora(load_base(tiny_base), tmp_path)


def test_a_pipeline_is_saved_in_half_precision_safetensors(tiny_base, tmp_path):
    from safetensors.torch import load_file

    base = load_base(tiny_base)
    base.save(tmp_path / "out")
    kinds = {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert kinds <= {".json", ".safetensors", ".txt"}
    state = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(t.dtype == torch.float16 for t in state.values())
    # the original is left alone
    assert all(p.dtype == torch.float32 for p in base.unet.parameters())
    again = load_base(tmp_path / "out")
    assert torch.allclose(predict(again), predict(base), atol=1e-2)


@pytest.mark.slow
def test_lora_and_pipeline_load_where_sfumato_cannot_be_imported(adapted, tiny_base, tmp_path):
    save_lora(adapted, tmp_path / "lora")
    load_base(tiny_base).save(tmp_path / "pipe")
    out = alone(
        """
        pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], local_files_only=True)
        pipe.load_lora_weights(sys.argv[2])
        print(sum("lora_B" in n for n, _ in pipe.unet.named_parameters()))
        pipe = StableDiffusionPipeline.from_pretrained(sys.argv[3], dtype=torch.float32, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        image = pipe("a picture of a circle", num_inference_steps=2, height=16, width=16, output_type="np").images
        print(image.shape)
        """,
        tiny_base,
        tmp_path / "lora",
        tmp_path / "pipe",
    )
    adapters = len(matching_modules(load_base(tiny_base), PROJECTIONS))
    assert out.split("\n")[:2] == [str(adapters), "(1, 16, 16, 3)"]
