"""Number formats: the one place that names a precision and switches it on."""

from __future__ import annotations

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
