"""Clipping: from per-unit gradient norms to factors that bound one unit's share of the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Contributions end a little inside the bound, so that the rounding of norms and sums in single
# precision (measured: a few 1e-5 at worst) cannot carry them over it.
ROUNDING = 1 - 1e-4


@dataclass(frozen=True)
class Clip:
    """A clipping rule.

    `sensitivity` is the largest norm one unit can contribute (zero-out neighbours).
    """

    kind: str
    sensitivity: float
    gamma: float = 0.0
    bounds: tuple[float, ...] = ()

    def factors(self, norms: torch.Tensor) -> torch.Tensor:
        """The factor by which each unit's gradient is multiplied.

        factor * norm <= sensitivity * ROUNDING for every finite norm. A norm that is not finite
        gets factor 0, and its gradient must then be replaced by zeros, because 0 * inf is not 0.
        Per group, one group whose norm is not finite rejects the whole unit.

        Args:
            norms: [B] over all trainable tensors together, or, per group, [B, groups]; float32 or
                float64.

        Returns:
            Factors of the same shape, dtype and device.

        Raises:
            ValueError: A narrower dtype, or another number of groups.
        """
        import torch  # here: whoever only prices or verifies a plan starts without it

        if norms.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"clipping needs norms in float32 or float64, not {norms.dtype}: accumulate them"
                " wider"
            )
        wide = norms.detach().to(torch.float64)
        usable = torch.isfinite(wide) & (wide >= 0)
        if self.bounds:
            if wide.dim() != 2 or wide.shape[1] != len(self.bounds):
                raise ValueError(
                    f"per-group clipping needs norms [B, {len(self.bounds)}], not"
                    f" {list(wide.shape)}"
                )
            usable = usable & usable.all(1, keepdim=True)
        wide = torch.where(usable, wide, torch.ones_like(wide))
        bound = ROUNDING * (wide.new_tensor(self.bounds) if self.bounds else self.sensitivity)
        factors = bound / (wide + self.gamma) if self.gamma else (bound / wide).clamp(max=1.0)
        # A factor too small for its dtype's full precision would be rounded by more than 1e-5: such
        # a unit adds nothing.
        usable &= factors >= torch.finfo(norms.dtype).tiny
        return torch.where(usable, factors, torch.zeros_like(factors)).to(norms.dtype)

    __call__ = factors


def flat(clip_norm: float) -> Clip:
    """Flat clipping, g * min(1, C / |g|): sensitivity C (DP-SGD, arXiv 1607.00133).

    Args:
        clip_norm: C, finite and > 0; ValueError otherwise.

    Returns:
        The clip.
    """
    return Clip("flat", _positive(clip_norm, "clip_norm"))


def normalised(gamma: float = 0.01) -> Clip:
    """Normalised clipping, g / (|g| + gamma): sensitivity 1 ("automatic", arXiv 2206.07136).

    The sensitivity is 1 whatever the gradient's scale, so there is no clip norm.

    Args:
        gamma: Finite and > 0; ValueError otherwise.

    Returns:
        The clip.
    """
    return Clip("normalised", 1.0, _positive(gamma, "gamma"))


def per_group(clip_norms: Sequence[float], gamma: float | None = None) -> Clip:
    """Clips every group of tensors by its own norm.

    The sensitivity is sqrt(C_1^2 + ... + C_G^2) over all groups together: the total counts every
    bound, because one unit can fill all of its groups at once.

    Args:
        clip_norms: C_1 ... C_G, finite and > 0.
        gamma: Finite and > 0: a group's gradient becomes C_g * g / (|g| + gamma), whatever its
            scale
            (kind "per-group-normalised"). None: it is clipped at C_g.

    Returns:
        The clip.

    Raises:
        ValueError: There is no group, or a C or gamma is not finite and > 0.
    """
    bounds = tuple(_positive(c, "clip_norm") for c in clip_norms)
    if not bounds:
        raise ValueError("per-group clipping needs at least one group")
    if gamma is None:
        return Clip("per-group", math.hypot(*bounds), bounds=bounds)
    return Clip("per-group-normalised", math.hypot(*bounds), _positive(gamma, "gamma"), bounds)


def equal_shares(total: float, groups: int) -> tuple[float, ...]:
    """`groups` equal clip norms whose squares add up to total^2."""
    return (total / math.sqrt(groups),) * groups


def _positive(value: float, name: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ValueError(
            f"{name} must be a finite number > 0: try 1.0 for clip_norm, 0.01 for gamma"
        )
    return float(value)
