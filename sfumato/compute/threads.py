"""How many threads an operation uses: the one place that sets it."""

from __future__ import annotations

import torch


def threads(asked: int | None = None) -> int:
    """Threads inside one operation: those asked for, or torch's choice.

    Sums over them are rounded in another order.
    """
    return asked or torch.get_num_threads()


def use_threads(count: int | None) -> None:
    """Let every operation from here on use `count` threads; None or 0 leaves torch's choice."""
    if count:
        torch.set_num_threads(count)
