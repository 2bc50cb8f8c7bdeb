"""Adapters in and out, in the layouts that diffusers and peft load unchanged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import ModelError
from .pipeline import Base

LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_NAME = "default"


def add_lora(base: Base, target_modules: Sequence[str], rank: int, alpha: float) -> None:
    """Put a peft LoRA of `rank` on the named denoiser modules (full names); B starts at zero."""
    from peft import LoraConfig

    config = LoraConfig(
        r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(target_modules), lora_dropout=0.0
    )
    base.unet.add_adapter(config, adapter_name=LORA_NAME)


def lora_inputs(base: Base) -> dict[str, torch.nn.Parameter]:
    """Adapted module's full name -> its A, in the order of the model."""
    ending = f".lora_A.{LORA_NAME}.weight"
    return {n.removesuffix(ending): p for n, p in base.unet.named_parameters() if n.endswith(ending)}


def save_lora(base: Base, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` opens."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(base.unet, adapter_name=LORA_NAME))
    config = base.unet.peft_config[LORA_NAME]
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=layers,
        unet_lora_adapter_metadata=_plain(config.to_dict()),
        safe_serialization=True,
    )


def _plain(config: dict) -> dict:
    return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


def load_lora(base: Base, folder: Path) -> None:
    """Merge a saved LoRA into the base's denoiser (merged weights sample faster)."""

    if not (folder / LORA_FILE).is_file():
        raise ModelError(f"no {LORA_FILE} in {folder}")
    pipe = as_pipeline(base)
    pipe.load_lora_weights(folder, adapter_name="sfumato")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    base.unet.requires_grad_(False)


def as_pipeline(base: Base):
    """The base as a diffusers StableDiffusionPipeline (shares its modules)."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        base.vae,
        base.text_encoder,
        base.tokenizer,
        base.unet,
        base.scheduler,
        None,
        None,
        requires_safety_checker=False,
    )


def save_pipeline(base: Base, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the whole pipeline as safetensors in half precision."""
    pipe = as_pipeline(base)
    halves = {n: copy.deepcopy(getattr(pipe, n)).to(dtype) for n in ("unet", "vae", "text_encoder")}
    type(pipe)(
        halves["vae"],
        halves["text_encoder"],
        base.tokenizer,
        halves["unet"],
        base.scheduler,
        None,
        None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
