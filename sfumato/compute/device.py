"""Device, precision, threads and seeding: the one place that names a device or a precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ..errors import SfumatoError

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


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


def precision(name: str) -> torch.dtype:
    """The number format that a plan or an option names.

    Raises:
        SfumatoError: For another word than those in `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise SfumatoError(f"unknown precision {name!r}: choose from {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def mixed_precision(dtype: torch.dtype, on: torch.Tensor) -> torch.autocast:
    """Matrix products and convolutions in `dtype` inside the `with` block; plain if it is float32.

    Args:
        dtype: bfloat16 or float32.
        on: A tensor on the device that is meant.
    """
    return torch.autocast(on.device.type, dtype, enabled=dtype != torch.float32)


def quick_precision(on: torch.Tensor) -> torch.dtype:
    """bfloat16 if that tensor's device has the instructions for it, else float32.

    Without them bfloat16 is much slower.
    """
    if on.is_cuda:
        quick = torch.cuda.is_bf16_supported()
    else:  # older torch cannot say; then float32, which is right everywhere
        quick = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
    return torch.bfloat16 if quick else torch.float32


def threads(asked: int | None = None) -> int:
    """Threads inside one operation: those asked for, or torch's choice.

    Sums over them are rounded in another order.
    """
    return asked or torch.get_num_threads()


def use_threads(count: int | None) -> None:
    """Let every operation from here on use `count` threads; None or 0 leaves torch's choice."""
    if count:
        torch.set_num_threads(count)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed` (public); afterwards it is restored.

    So the caller's random numbers do not depend on ours.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield
