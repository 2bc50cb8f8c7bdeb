"""How many threads an operation uses: the one place that sets it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from joblib import cpu_count

# What a user sets for torch's count, in the environment; it wins over the quota.
SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def threads(asked: int | None = None) -> int:
    """Threads inside one operation: those asked for, or torch's choice within a container's quota.

    Torch takes the physical cores that the process may run on, whatever processor time its cgroup
    has: threads beyond that wait for each other while the kernel holds some of them back. Sums over
    another number of threads are rounded in another order.
    """
    if asked:
        return asked
    own = torch.get_num_threads()
    return own if any(name in os.environ for name in SETTINGS) else min(own, cpu_count())


def use_threads(count: int | None) -> None:
    """Let every operation from here on use `count` threads; None or 0 as `threads` says."""
    wanted = threads(count)
    if wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations of the `with` block use one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
