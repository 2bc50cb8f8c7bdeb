"""How an adapter's input side starts.

It decides which directions the budget is spent on, and costs nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..compute.device import on_host
from ..errors import SfumatoError

STARTS = ("gaussian", "orthonormal", "public")


@torch.no_grad()
def start_inputs(
    factors: Mapping[str, nn.Parameter], how: str, public: Mapping[str, torch.Tensor] | None
) -> None:
    """Overwrites input factors in place; rows keep the length of the Gaussian start.

    SfumatoError if rows are missing or more are needed than there are dimensions.

    Args:
        factors: Module -> its input factor [rank, d...] (LoRA's A, LoDA's D).
        how: "gaussian" leaves them; "orthonormal" draws orthonormal rows from torch's generator;
            "public" takes the rows of `public`.
        public: Module -> [rank, d]: right singular vectors of gradients on public images
            (`right_vectors`).
    """
    if how not in STARTS:
        raise SfumatoError(f"--adapter-init {how}: choose {', '.join(STARTS)}")
    if how == "gaussian":
        return
    if how == "public" and public is None:
        raise SfumatoError(
            "--adapter-init public needs --public-data, images whose gradients are free"
        )
    for name, factor in factors.items():
        flat = factor.flatten(1)
        if public is not None and how == "public":
            rows = public.get(name)
        elif flat.shape[0] <= flat.shape[1]:
            rows = torch.linalg.qr(torch.randn(flat.shape[::-1]))[0].T
        else:
            rows = None
        if rows is None or rows.shape != flat.shape:
            raise SfumatoError(
                f"--adapter-init {how}: {name} has no {flat.shape[0]} such directions: lower --rank"
            )
        length = on_host(flat).norm() / flat.shape[0] ** 0.5
        factor.copy_((rows * length).view_as(factor))


def right_vectors(gradient: torch.Tensor, rank: int) -> torch.Tensor:
    """Top `rank` right singular vectors [rank, d] of a weight's gradient [p, d...].

    They are the input directions that the gradient depends on most.
    """
    return (
        torch.linalg.svd(on_host(gradient).flatten(1).double(), full_matrices=False)
        .Vh[:rank]
        .float()
        .contiguous()
    )
