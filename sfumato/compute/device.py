"""Device and seeding: the one place that names a device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def device() -> torch.device:
    """The device that models are put on: the CPU, on which runs repeat to the last bit."""
    return torch.device("cpu")


def on_host(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The tensor in the machine's own memory, detached, as numpy and hashes need it.

    Args:
        tensor: Any shape, on any device.
        dtype: What its numbers become; None leaves them.

    Returns:
        The same shape; the tensor itself where nothing has to change.
    """
    return tensor.detach().to("cpu", dtype)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed` (public); afterwards it is restored.

    So the caller's random numbers do not depend on ours.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield
