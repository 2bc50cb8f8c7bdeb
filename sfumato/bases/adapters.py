"""Adapters in and out, in the layouts that diffusers and peft load unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelError, SfumatoError
from .interface import Base
from .weights import check_weights

LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_NAME = "default"
# how peft and diffusers call a matrix A
_INPUTS = (".lora_A.weight", ".lora.down.weight", ".lora_down.weight")


def require_adapters(base: Base) -> None:
    """SfumatoError for a family whose pipelines have no file format for adapters."""
    if not base.adapters:
        raise SfumatoError(
            f"a {base.family} base has no file format for adapters: use --method full or attention"
        )


def add_lora(base: Base, target_modules: Sequence[str], rank: int, alpha: float) -> None:
    """Put a peft LoRA of `rank` on the named denoiser modules (full names); B starts at zero."""
    require_adapters(base)
    from peft import LoraConfig

    scale: Any = alpha  # peft says int, and takes any number
    config = LoraConfig(
        r=rank,
        lora_alpha=scale,
        init_lora_weights="gaussian",
        target_modules=list(target_modules),
        lora_dropout=0.0,
    )
    denoiser: Any = base.denoiser  # a diffusers model
    denoiser.add_adapter(config, adapter_name=LORA_NAME)


def lora_inputs(base: Base) -> dict[str, torch.nn.Parameter]:
    """Adapted module's full name -> its A, in the order of the model."""
    ending = f".lora_A.{LORA_NAME}.weight"
    return {
        n.removesuffix(ending): p for n, p in base.denoiser.named_parameters() if n.endswith(ending)
    }


def save_lora(base: Base, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` opens."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(
        get_peft_model_state_dict(base.denoiser, adapter_name=LORA_NAME)
    )
    denoiser: Any = base.denoiser  # a diffusers model
    config = denoiser.peft_config[LORA_NAME]
    base.write_lora(folder, layers, _plain(config.to_dict()))


def _plain(config: dict) -> dict:
    return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


def load_lora(base: Base, folder: Path) -> None:
    """Merges a saved LoRA into the base's denoiser (it samples faster).

    ModelError if it is damaged or for another base.
    """
    if not (folder / LORA_FILE).is_file():
        raise ModelError(f"no {LORA_FILE} in {folder}")
    check_weights(folder / LORA_FILE)
    pipe = base.as_pipeline()
    try:
        with safe_open(folder / LORA_FILE, "pt") as file:
            if not all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys()):
                raise ValueError("numbers that are not finite")
            named = sum(1 for name in file.keys() if name.endswith(_INPUTS))
        # Without its name a loader takes any file whose name ends so.
        pipe.load_lora_weights(
            folder, weight_name=LORA_FILE, use_safetensors=True, adapter_name="sfumato"
        )
        held = [
            n for n, _ in base.denoiser.named_parameters() if n.endswith(".lora_A.sfumato.weight")
        ]
        if not named or len(held) != named:
            raise ValueError("adapters for modules that this base does not have")
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{LORA_FILE} does not fit this base: {reason}") from error
    base.denoiser.requires_grad_(False)
