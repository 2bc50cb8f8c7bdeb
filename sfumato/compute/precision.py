"""Number formats: the one place that names a precision and switches it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..errors import SfumatoError

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def precision(name: str) -> torch.dtype:
    """The number format that a plan or an option names.

    Raises:
        SfumatoError: For another word than those in `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise SfumatoError(f"unknown precision {name!r}: choose from {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def mixed_precision(dtype: torch.dtype, on: torch.Tensor) -> torch.autocast:
    """Matrix products and convolutions in `dtype` inside the `with` block; plain if it is float32.

    Args:
        dtype: bfloat16 or float32.
        on: A tensor on the device that is meant.
    """
    return torch.autocast(on.device.type, dtype, enabled=dtype != torch.float32)


def quick_precision(on: torch.Tensor) -> torch.dtype:
    """bfloat16 if that tensor's device has the instructions for it, else float32.

    Without them bfloat16 is much slower.
    """
    if on.is_cuda:
        quick = torch.cuda.is_bf16_supported()
    else:  # older torch cannot say; then float32, which is right everywhere
        quick = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
    return torch.bfloat16 if quick else torch.float32


Stage = Literal["encode", "train", "invert", "sample", "decode"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Formats:
    """The number format of the products of each stage of a run.

    Attributes:
        encode: Of images to latents.
        train: Of the denoiser in a training step.
        invert: Of the denoiser while an embedding is learnt.
        sample: Of the denoiser while images are drawn.
        decode: Of latents to images.
    """

    encode: torch.dtype = torch.float32
    train: torch.dtype = torch.float32
    invert: torch.dtype = torch.float32
    sample: torch.dtype = torch.float32
    decode: torch.dtype = torch.float32

    def of(self, stage: Stage | torch.dtype) -> torch.dtype:
        """The format of a stage; a format stands for itself."""
        return stage if isinstance(stage, torch.dtype) else getattr(self, stage)

    @property
    def names(self) -> dict[str, str]:
        """Stage -> name of its format, as a run keeps them."""
        word = {dtype: name for name, dtype in PRECISIONS.items()}
        return {stage: word[getattr(self, stage)] for stage in STAGES}

    @classmethod
    def named(cls, names: Mapping[str, str]) -> Formats:
        """The formats that a run has kept.

        Raises:
            SfumatoError: A format that there is not.
        """
        found: dict[str, Any] = {stage: precision(name) for stage, name in names.items()}
        return cls(**found)

    @classmethod
    def everywhere(cls, name: str) -> Formats:
        """One format for all stages."""
        return cls.named(dict.fromkeys(STAGES, name))
