"""How much memory a piece of work, or this process, takes at its peak."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import psutil
import torch

from .device import device as our_device
from .device import peak_of

try:
    import resource
except ImportError:  # Windows
    resource = None


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or the system had no more memory to give."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(
        re.match(r".*DefaultCPUAllocator", str(error))
    )


def peak_bytes(work: Callable[[], object], device: torch.device | None = None) -> int:
    """The most bytes that torch's allocator held at once while `work` ran, above those before.

    Of `device` (default: the package's).
    """
    measured = peak_of(work, device or our_device())
    if measured is not None:
        return measured
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    with _silence():
        profile.start()
    try:
        work()
    finally:
        with _silence():
            profile.stop()
    # The public table has totals only; the peak needs the single allocations, in their order in
    # time.
    profiler: Any = profile.profiler
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _silence():
    """Silences the process's standard error: the profiler's native code writes to it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_resident() -> int:
    """Most bytes of memory that this process has had at once since it began."""
    if resource is None:
        return psutil.Process().memory_info().peak_wset
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes
