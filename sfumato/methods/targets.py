"""Choosing what to train in a denoiser, by exact module names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ..errors import SfumatoError

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def attention_blocks(unet: nn.Module) -> list[str]:
    """Full names of the attention blocks in the order down, mid, up, by number."""
    found = [n for n, _ in unet.named_modules() if re.search(r"(^|\.)attentions\.\d+$", n)]
    place = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}

    def order(name: str) -> tuple:
        parts = name.split(".")
        return (place[parts[0]], [int(p) for p in parts if p.isdigit()])

    return sorted(found, key=order)


def block_range(blocks: Sequence[str], wanted: str | None) -> list[str]:
    """The blocks of a 1-based range such as "9-" or "2-5" (DP-LDM counts so); all for None."""
    if wanted is None:
        return list(blocks)
    match = re.fullmatch(r"(\d+)(-(\d*))?", wanted)
    if not match:
        raise SfumatoError(f"--blocks {wanted}: write a range such as 9-, 2-5 or 3")
    first = int(match[1])
    last = first if match[2] is None else int(match[3] or len(blocks))
    if not 1 <= first <= last <= len(blocks):
        raise SfumatoError(f"--blocks {wanted}: this denoiser has attention blocks 1 to {len(blocks)}")
    return list(blocks[first - 1 : last])


def matching_modules(unet: nn.Module, suffixes: Sequence[str]) -> list[str]:
    """Full names of the Linear and Conv2d modules whose name ends in one of `suffixes`, at a dot.

    Raises SfumatoError naming the suffix that matches nothing.
    """
    names = [n for n, m in unet.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    chosen: dict[str, None] = {}
    for suffix in suffixes:
        hits = [n for n in names if n == suffix or n.endswith("." + suffix)]
        if not hits:
            raise SfumatoError(f"--target-modules {suffix}: no linear or convolution of this denoiser ends so")
        chosen.update(dict.fromkeys(hits))
    return [n for n in names if n in chosen]
