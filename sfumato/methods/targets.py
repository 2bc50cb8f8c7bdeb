"""Choosing what to train in a denoiser, by exact module names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import SfumatoError

if TYPE_CHECKING:
    from ..bases import Base

GRANULARITIES = ("matrix", "layer", "block")


def block_range(blocks: Sequence[str], wanted: str | None) -> list[str]:
    """The blocks of a 1-based range such as "9-" or "2-5" (DP-LDM counts so); all for None."""
    if not blocks:
        raise SfumatoError("this denoiser has no attention blocks: use --method full")
    if wanted is None:
        return list(blocks)
    match = re.fullmatch(r"(\d+)(-(\d*))?", wanted)
    if not match:
        raise SfumatoError(f"--blocks {wanted}: write a range such as 9-, 2-5 or 3")
    first = int(match[1])
    last = first if match[2] is None else int(match[3] or len(blocks))
    if not 1 <= first <= last <= len(blocks):
        raise SfumatoError(
            f"--blocks {wanted}: this denoiser has attention blocks 1 to {len(blocks)}"
        )
    return list(blocks[first - 1 : last])


def matching_modules(base: Base, suffixes: Sequence[str]) -> list[str]:
    """Full names of the Linear and Conv2d modules that `suffixes` select.

    A module is selected if its name ends in one of them, at a dot, or is in that set of
    `base.targets`. Raises SfumatoError naming the suffix or set that matches nothing.
    """
    from torch import nn

    names = [n for n, m in base.denoiser.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    chosen: dict[str, None] = {}
    for suffix in suffixes:
        meant = base.targets.get(suffix, (suffix,))
        hits = [n for n in names if any(n == end or n.endswith("." + end) for end in meant)]
        if not hits:
            raise SfumatoError(
                f"--target-modules {suffix}: no linear or convolution of this denoiser ends so"
            )
        chosen.update(dict.fromkeys(hits))
    return [n for n in names if n in chosen]


def grouped(base: Base, matrices: Sequence[str], granularity: str) -> dict[str, tuple[str, ...]]:
    """Group name -> full names of its matrices, in order.

    Each matrix alone, by layer (one attention, one feed-forward, one residual block), or by whole
    attention or residual block.
    """
    if granularity not in GRANULARITIES:
        raise SfumatoError(f"--granularity {granularity}: choose {', '.join(GRANULARITIES)}")
    group_of = {"matrix": str, "layer": base.layer_of, "block": base.block_of}[granularity]
    found: dict[str, list[str]] = {}
    for name in matrices:
        found.setdefault(group_of(name), []).append(name)
    return {group: tuple(members) for group, members in found.items()}


def how_many(keep: float | int, groups: int) -> int:
    """A ratio (float in (0, 1]) or a count (int) of `groups`, at least 1.

    SfumatoError for anything else.
    """
    if isinstance(keep, int) and not isinstance(keep, bool) and 1 <= keep <= groups:
        return keep
    if isinstance(keep, float) and 0 < keep <= 1:
        return max(1, round(keep * groups))
    raise SfumatoError(f"--keep {keep}: give a ratio such as 0.3, or a count from 1 to {groups}")
