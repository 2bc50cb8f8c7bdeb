"""Opening the parts of a checked pipeline folder by their own libraries."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compute.memory import out_of_memory
from ..compute.stored import HALVES, pack
from ..errors import MachineError, ModelError, SfumatoError
from . import weights
from .weights import check_settings, check_weights

_FORMATS = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
SAFE = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}


@contextlib.contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turns an exception of a foreign loader into one line with the folder and the reason."""
    try:
        yield
    except SfumatoError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise MachineError(
                f"the base {folder} does not fit into memory: take a smaller one, or another"
                " --device"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"the base {folder} does not load: {reason}") from error


def read_models(folder: Path, classes: Mapping[str, type]) -> dict[str, nn.Module]:
    """Component name -> model, reading as single precision on the CPU, frozen, for evaluation.

    Matrices of a large part that are stored in half precision stay so in memory
    (`compute.stored`): the numbers are those of the file either way.

    Raises:
        ModelError: For a model that lacks weights.
    """
    models, missing = {}, []
    for name, cls in classes.items():
        models[name], lacks = _read(folder / name, cls)
        missing += lacks
    # A loader would fill these with random numbers and say so only in its log.
    if missing:
        raise ModelError(
            f"the base {folder} is incomplete: it has no weights for {min(missing)} ({len(missing)}"
            " such)"
        )
    for model in models.values():
        model.requires_grad_(False).eval()
    return models


def _read(component: Path, cls: Any) -> tuple[nn.Module, list[str]]:
    """A model, and the names of weights that it lacks."""
    variant = variant_of(component)
    kinds, size = stored_formats(component)
    halves = [kind for kind in kinds if kind in HALVES] if size >= weights.LEAST else []

    def read(dtype: torch.dtype) -> tuple[nn.Module, list[str]]:
        model, found = cls.from_pretrained(component, dtype=dtype, variant=variant, **SAFE)
        return model, found["missing_keys"]

    model, missing = read(halves[0] if len(kinds) == 1 and halves else torch.float32)
    if any(b.dtype in HALVES for b in _computed(model)):
        model, missing = read(torch.float32)  # made in half precision: not what a file says
    if halves and not missing:
        pack(model, halves)
    return model, missing


def stored_formats(component: Path) -> tuple[set[torch.dtype], int]:
    """The formats of a component's numbers, and how many bytes they have in the files read."""
    variant, kinds, size = variant_of(component), set[torch.dtype](), 0
    for path in component.glob("*.safetensors"):
        if (len(path.name.split(".")) == 3) != (variant is not None):
            continue  # the same weights once more
        for entry in check_weights(path).values():
            if entry["dtype"] in _FORMATS:
                kinds.add(_FORMATS[entry["dtype"]])
                start, end = entry["data_offsets"]
                size += end - start
    return kinds, size


def _computed(model: nn.Module) -> list[torch.Tensor]:
    """Tensors that a model computes when it is built and no file holds."""
    saved = model.state_dict().keys()
    return [b for name, b in model.named_buffers() if name not in saved]


def variant_of(component: Path) -> str | None:
    """The `variant` of a component saved or fetched in it alone, such as "fp16"; else None.

    Raises:
        ModelError: For several variants without the plain weights: nothing says which is meant.
    """
    names = [path.name.split(".") for path in component.glob("*.safetensors")]
    variants = {re.sub(r"-[0-9]+-of-[0-9]+$", "", name[1]) for name in names if len(name) == 3}
    if any(len(name) == 2 for name in names) or not variants:
        return None
    if len(variants) > 1:
        raise ModelError(
            f"{component} holds its weights as the variants {', '.join(sorted(variants))}: keep one"
        )
    return variants.pop()


def read_scheduler(folder: Path) -> Any:
    """The diffusers scheduler that the pipeline's index names."""
    import diffusers

    cls = getattr(diffusers, check_settings(folder / "model_index.json")["scheduler"][1])
    return cls.from_pretrained(folder / "scheduler", local_files_only=True)


def require_finite(folder: Path, models: Mapping[str, nn.Module]) -> None:
    """ModelError for weights that are not finite."""
    for name, model in models.items():
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise ModelError(f"{name} of {folder} holds weights that are not finite")


def require_schedule(folder: Path, scheduler: Any, times: int) -> None:
    """ModelError for a scheduler without a variance-preserving schedule of `times` times."""
    if len(getattr(scheduler, "alphas_cumprod", ())) != times:
        raise ModelError(
            f"the scheduler of {folder} has no variance-preserving schedule of {times} times"
        )
    noise = scheduler.config.get("prediction_type", "epsilon") == "epsilon"
    # DPM-Solver puts a tiny number in place of the zero, so the setting is asked, too.
    zero = scheduler.config.get("rescale_betas_zero_snr") or not scheduler.alphas_cumprod[-1]
    if noise and zero:
        raise ModelError(
            f"{folder} predicts noise and its schedule ends in noise alone (zero terminal SNR),"
            " where that says nothing of the picture: take a v_prediction base, or set"
            " rescale_betas_zero_snr to false if it was trained so"
        )
