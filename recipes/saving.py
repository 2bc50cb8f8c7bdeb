"""How every recipe writes its finished pipeline and its progress."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from .denoiser import make_scheduler


def log(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def save_pipeline(folder: Path, unet, vae, text_encoder, tokenizer) -> None:
    """Write a StableDiffusionPipeline folder in half precision, safetensors only."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    scheduler = DPMSolverMultistepScheduler.from_config(
        make_scheduler().config, timestep_spacing="trailing"
    )
    pipe = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for config in folder.glob("*/config.json"):  # where a part was loaded from is nobody's business
        facts = json.loads(config.read_text())
        facts.pop("_name_or_path", None)
        config.write_text(json.dumps(facts, indent=2) + "\n")
