"""Most memory of `sfumato plan` on a base of Stable Diffusion XL's size, stored in float16.

    python benchmarks/plan_memory.py --work NEW-FOLDER           # 6 GB of disk, removed at the end
    python benchmarks/plan_memory.py --work NEW-FOLDER --old CHECKOUT

A random base is saved as a pipeline folder: U-Net and autoencoder in the published shapes, and text
encoders of the published widths with a quarter of the layers and a small vocabulary, so that what
reads them in float32 fits 14 GB, too. A dozen made pictures are the private images. Each
checkout runs the same plan, in turns; Linux's own account of the process says what it held at most,
files that it had mapped included. One JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from large import filled, sdxl
from measure import machine

SIDE = 256  # of the base's pictures: latents of 32, as in large.py
PLAN = ["--epsilon", "8", "--method", "lora", "--rank", "4", "--steps", "10",
        "--expected-batch-size", "4", "--noise-draws", "1", "--micro-batch-size", "1",
        "--mixed-precision", "no", "--json"]  # fmt: skip


def clip(tokenizer: Any, projected: bool, **shape: int) -> Any:
    """A text encoder of this shape that reads the tokenizer's words."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    with torch.device("meta"):
        made = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    made = made.half().to_empty(device="cpu")
    for name, p in made.named_parameters():
        p.data.uniform_(-0.02, 0.02).add_(1.0 if "norm" in name and name.endswith("weight") else 0)
    for name, b in made.named_buffers():
        b.copy_(torch.arange(b.numel()).view(b.shape)) if "position_ids" in name else b.zero_()
    return made


def save_base(folder: Path) -> None:
    """Writes the pipeline folder, in float16."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline

    from sfumato.bases.tiny import make_tiny_tokenizer

    def unet() -> Any:
        model, shapes = sdxl()
        model.register_to_config(sample_size=SIDE // 8)
        return model, shapes

    tokenizers = make_tiny_tokenizer(), make_tiny_tokenizer()
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIDE,
    )
    small = {"num_hidden_layers": 3, "num_attention_heads": 12}
    large = {"num_hidden_layers": 8, "num_attention_heads": 20}
    model, _ = filled(unet, torch.float16, keep=False)
    pipe = StableDiffusionXLPipeline(
        vae.half(),
        clip(tokenizers[0], False, hidden_size=768, intermediate_size=3072, **small),
        clip(tokenizers[1], True, hidden_size=1280, intermediate_size=5120, projection_dim=1280,
             **large),
        *tokenizers,
        model,
        DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder, safe_serialization=True)


def save_images(folder: Path) -> None:
    """A dozen pictures of two classes."""
    from PIL import Image

    for number in range(12):
        place = folder / ("circle" if number % 2 else "cross")
        place.mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).save(place / f"{number}.png")


def peak_of_plan(checkout: Path, base: Path, images: Path) -> dict[str, Any]:
    """Most bytes that the plan's process held, and its processor seconds."""
    command = [sys.executable, "-m", "sfumato", "plan", str(images), "--base", str(base), *PLAN]
    paths = os.environ | {"PYTHONPATH": str(checkout), "SFUMATO_MEASURE": "0"}
    with subprocess.Popen(command, env=paths, cwd=checkout, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the plan of {checkout} ended with {process.returncode}")
    return {
        "checkout": checkout.name,
        "peak_bytes": used.ru_maxrss * 1024,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "trainable": json.loads(said)["plan"]["trainable"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--old", type=Path, help="another checkout, measured first")
    args = parser.parse_args()
    args.work.mkdir()
    try:
        base, images = args.work / "base", args.work / "images"
        child = os.fork()  # what it takes to make the base is no part of what follows
        if not child:
            save_base(base)
            save_images(images)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit("the base could not be written")
        size = sum(p.stat().st_size for p in base.rglob("*") if p.is_file())
        here = Path(__file__).resolve().parents[1]
        for checkout in [*([args.old.resolve()] if args.old else []), here]:
            found = peak_of_plan(checkout, base, images) | {"base_bytes": size, "side": SIDE // 8}
            print(json.dumps(found | machine("cpu")), flush=True)
    finally:
        shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
