"""Adapters in and out, in the layouts that diffusers and peft load unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..compute.device import on_host
from ..compute.stored import unpack
from ..errors import ModelError, SfumatoError
from .interface import Base
from .weights import check_weights

LORA_FILE = "pytorch_lora_weights.safetensors"
# the same numbers under the names that kohya's scripts, ComfyUI and web interfaces look for
KOHYA_FILE = "lora_kohya.safetensors"
LORA_NAME = "default"
# how peft and diffusers call a matrix A
_INPUTS = (".lora_A.weight", ".lora.down.weight", ".lora_down.weight")
_OUTPUTS = (".lora_B.weight", ".lora.up.weight", ".lora_up.weight")


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


def lora_inputs(base: Base) -> dict[str, nn.Parameter]:
    """Adapted module's full name -> its A, in the order of the model."""
    ending = f".lora_A.{LORA_NAME}.weight"
    return {
        n.removesuffix(ending): p for n, p in base.denoiser.named_parameters() if n.endswith(ending)
    }


def save_lora(base: Base, folder: Path) -> None:
    """Write the base's LoRA as `pytorch_lora_weights.safetensors` (`write_layers`)."""
    from peft import get_peft_model_state_dict

    denoiser: Any = base.denoiser  # a diffusers model
    config = denoiser.peft_config[LORA_NAME]
    layers = get_peft_model_state_dict(denoiser, adapter_name=LORA_NAME)
    write_layers(base, folder, layers, config.r, config.lora_alpha / config.r)


def write_layers(
    base: Base, folder: Path, layers: Mapping[str, torch.Tensor], rank: int, scale: float
) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` opens.

    The scale goes into B and alpha is the rank, in the header as well: a loader that reads alpha
    there and one that knows tensors only then see the same change of weights.

    Args:
        base: What the layers were trained on.
        folder: Made if it is not there.
        layers: "<module>.lora_A.weight" [rank, d, ...] and "<module>.lora_B.weight" [p, rank, ...].
        rank: Of every layer.
        scale: alpha / rank as trained.
    """
    from peft import LoraConfig

    ending = ".lora_A.weight"
    modules = sorted(name.removesuffix(ending) for name in layers if name.endswith(ending))
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, lora_dropout=0.0)
    written = {
        name: on_host(tensor * scale if name.endswith(".lora_B.weight") else tensor).contiguous()
        for name, tensor in layers.items()
    }
    # peft's own names: diffusers' older ones exist for attention projections alone
    base.write_lora(folder, written, _plain(config.to_dict()))


def _plain(config: dict) -> dict:
    return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


def write_kohya(model: Path, folder: Path) -> None:
    """Writes the LoRA in `model` once more, under kohya's names, as KOHYA_FILE in `folder`.

    They are `lora_unet_<module with underscores>` and `.lora_down.weight`, `.lora_up.weight`,
    `.alpha`. Only for a LoRA whose alpha is its rank, as `write_layers` leaves them, or one that
    says its alpha in the header. Nothing is written for a denoiser that is no U-Net: there those
    names are others, one set per family, and such programs read diffusers' own file.
    """
    with safe_open(model / LORA_FILE, "pt") as file:
        said = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    alpha = said.get("unet.lora_alpha")
    tensors: dict[str, torch.Tensor] = {}
    layers = load_file(model / LORA_FILE)
    if not all(name.startswith("unet.") for name in layers):
        return
    for name, tensor in layers.items():
        for side, endings in (("down", _INPUTS), ("up", _OUTPUTS)):
            ending = next((e for e in endings if name.endswith(e)), None)
            if ending is None:
                continue
            layer = "lora_" + name.removesuffix(ending).replace(".", "_")
            tensors[f"{layer}.lora_{side}.weight"] = tensor
            if side == "down":
                own = len(tensor) if alpha is None else alpha
                tensors[f"{layer}.alpha"] = torch.tensor(float(own))
    save_file(tensors, folder / KOHYA_FILE, metadata={"format": "pt"})


def hosts(denoiser: nn.Module) -> list[nn.Parameter]:
    """Weights of the layers that have an adapter beside them."""
    found = (getattr(module, "base_layer", None) for module in denoiser.modules())
    return [p for layer in found if isinstance(layer, nn.Module) for p in layer.parameters()]


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
        unpack(hosts(base.denoiser))
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
