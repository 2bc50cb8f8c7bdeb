"""What is asked of the arguments of clipped sums, of their losses, and of torch's switches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .cost import STRATEGIES


def check_precision(on: Tensor) -> None:
    """Checks that float32 products on that tensor's device are computed in float32.

    Mixed precision belongs into `row_losses`, around the model alone: under it the sums would not
    have the norms that were measured. A product tells whether it is on.

    Raises:
        ValueError: They are not.
    """
    if not _full_precision():
        raise ValueError(
            "float32 matmul precision must be 'highest', and NVIDIA_TF32_OVERRIDE unset: sums must"
            " have the norms that were measured"
        )
    with torch.no_grad():
        one = torch.ones(1, 1, device=on.device)
        if torch.mm(one, one).dtype != one.dtype:
            raise ValueError(
                "mixed precision is on around the sums: switch it on inside row_losses alone"
            )


def _full_precision() -> bool:
    """Returns whether float32 products are computed in float32, by all of torch's switches for it.

    (rules.py takes care of cuDNN's.) cuBLAS obeys a variable of the driver's whatever torch says.
    """
    if os.environ.get("NVIDIA_TF32_OVERRIDE", "0") not in ("", "0"):
        return False
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
    except RuntimeError:  # one backend was set by itself, and not to full precision
        return False
    onednn = torch.backends.mkldnn
    return not any(
        getattr(getattr(onednn, part, None), "fp32_precision", "none") in ("bf16", "tf32")
        for part in ("conv", "matmul")
    )


def check_strategy(strategy: str | Mapping[str, str]) -> None:
    """Raise ValueError unless it is "auto", a way, or a way for each of some names."""
    asked = {strategy} - {"auto"} if isinstance(strategy, str) else set(strategy.values())
    if unknown := asked - set(STRATEGIES):
        raise ValueError(
            f"strategy must be auto, {', '.join(STRATEGIES)}, not {sorted(unknown)[0]!r}"
        )


def check_groups(
    trainable: dict[str, nn.Parameter], groups: Sequence[Sequence[str]] | None
) -> None:
    """Raise ValueError unless `groups` is None or a partition of the trainable names."""
    if groups is not None and sorted(name for names in groups for name in names) != sorted(
        trainable
    ):
        raise ValueError("groups must name every trainable tensor exactly once")


def check_counts(draws: int, micro_batch: int | None) -> None:
    """Raise ValueError unless both are whole numbers >= 1 (micro_batch may be None)."""
    for name, value in (
        ("draws", draws),
        ("micro_batch", 1 if micro_batch is None else micro_batch),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, not {value!r}")


def check_losses(losses: Tensor, records: int, draws: int) -> Tensor:
    """Returns the row losses in fp32 or better.

    Raises:
        ValueError: They are not one per row, [records * draws].
    """
    if not isinstance(losses, Tensor) or losses.dim() == 0:
        raise ValueError("row_losses returned a scalar: return one loss per row, not a mean or sum")
    if tuple(losses.shape) != (records * draws,):
        raise ValueError(
            f"row_losses returned shape {tuple(losses.shape)} for {records} records x {draws} draws"
        )
    return losses if losses.dtype == torch.float64 else losses.float()
