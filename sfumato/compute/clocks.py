"""Clocks that see what a device does: its work goes on after the host's call has returned."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from .device import device, is_host, wait


def work_clock(where: torch.device | None = None) -> Callable[[], float]:
    """Seconds of work so far, of which only differences mean anything.

    On the host the processor time of this process, to which other work of the machine adds nothing;
    of another device, which processor time does not see, the wall's once all that was asked of it
    is done.

    Args:
        where: The device that works; None for the package's.
    """
    where = device() if where is None else where
    return time.process_time if is_host(where) else wall_clock(where)


def wall_clock(where: torch.device | None = None) -> Callable[[], float]:
    """Seconds that pass, read once a device has done all that was asked of it.

    Args:
        where: The device; None for the package's.
    """
    where = device() if where is None else where

    def seconds() -> float:
        wait(where)
        return time.perf_counter()

    return seconds
