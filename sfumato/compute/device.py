"""Device and seeding: the one place that names a device."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil
import torch

from ..errors import MachineError, SfumatoError

AUTO, HOST, GPU = "auto", "cpu", "cuda"
# Products on a GPU repeat to the last bit with a workspace of one of these sizes alone.
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_chosen: ContextVar[tuple[str, torch.device]] = ContextVar(
    "device", default=(HOST, torch.device(HOST))
)


def device() -> torch.device:
    """The device that models are put on: as `using` says; without it the CPU."""
    return _chosen.get()[1]


def device_name() -> str:
    """The same as the option says it; a GPU without a number is each process's own."""
    return _chosen.get()[0]


def is_host(where: torch.device) -> bool:
    """Whether a device is the processor, whose memory is the machine's."""
    return where.type == HOST


def settle(asked: str) -> tuple[str, torch.device]:
    """The device that an option asks for: how it is written, and torch's own.

    "auto" is a GPU where there is one. Without a number a GPU is the one of this process's place on
    its machine, as torchrun counts.

    Args:
        asked: auto, cpu, cuda or cuda:N.

    Raises:
        SfumatoError: Another word.
        MachineError: A device that is not there.
    """
    found = re.fullmatch(rf"({AUTO}|{HOST}|{GPU})(?::([0-9]{{1,4}}))?", asked)
    if found is None or (found[2] is not None and found[1] != GPU):
        raise SfumatoError(f"--device {asked}: choose {AUTO}, {HOST}, {GPU} or {GPU}:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = found[1] if found[1] != AUTO else GPU if count else HOST
    if kind == HOST:
        return HOST, torch.device(HOST)
    if not count:
        built = torch.backends.cuda.is_built()
        why = "finds none" if built else "is built for the CPU alone"
        cure = "look at the driver (nvidia-smi)" if built else "install a build of torch for GPUs"
        raise MachineError(f"--device {asked}: torch {why} here: {cure}, or say --device {HOST}")
    own = os.environ.get("LOCAL_RANK", "")
    number = int(found[2] or (own if re.fullmatch("[0-9]{1,4}", own) else 0))
    if number >= count:
        asked_for = f"--device {asked}" if found[2] else f"process {number} of this machine"
        raise MachineError(
            f"{asked_for}: there are {count} GPUs here, counted from 0: name one of them, start at"
            f" most {count} processes, or say --device {HOST}"
        )
    return (f"{GPU}:{number}" if found[2] else GPU), torch.device(GPU, number)


def carriers() -> str:
    """What carries tensors between ranks: nccl those of GPUs where there are any, gloo all else."""
    return f"{HOST}:gloo,{GPU}:nccl" if torch.cuda.is_available() else "gloo"


def describe() -> str:
    """All of the device that decides the bits of what it computes; its kind comes first.

    Of a GPU its model, its driver and the libraries of its kernels; not its number, so that a run
    goes on on another one of the same model.
    """
    where = device()
    if where.type != GPU:
        return where.type
    found = torch.cuda.get_device_properties(where)
    return (
        f"{where.type}: {found.name}, capability {found.major}.{found.minor}, driver {_driver()},"
        f" cuda {torch.version.cuda}, cudnn {torch.backends.cudnn.version()}"
    )


def _driver(place: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The driver's version, as it says it; on systems where it does not, the one of its interface.

    Where neither is known it is "unknown", on every start alike.
    """
    with contextlib.suppress(OSError):
        found = re.search(r"\d+(\.\d+)+", place.read_text("utf-8", "replace"))
        if found:
            return found[0]
    interface = getattr(torch._C, "_cuda_getDriverVersion", lambda: "unknown")
    return str(interface())


@contextlib.contextmanager
def using(asked: str | torch.device) -> Iterator[torch.device]:
    """Inside, `device` is the one that was asked for, and what it computes repeats bit by bit.

    A free replay of a run needs that (`runs.execute`). What torch was set to before is restored.

    Args:
        asked: As in `settle`; or a device of torch's, which is taken as it is.

    Yields:
        The device.

    Raises:
        SfumatoError: As `settle`.
    """
    pair = settle(asked) if isinstance(asked, str) else (str(asked), asked)
    with contextlib.ExitStack() as inside:
        if pair[1].type == GPU:
            inside.enter_context(torch.cuda.device(pair[1]))
            inside.enter_context(repeating())
        token = _chosen.set(pair)
        inside.callback(_chosen.reset, token)
        yield pair[1]


@contextlib.contextmanager
def repeating() -> Iterator[None]:
    """Inside, torch takes kernels that repeat to the last bit, and none that it finds by timing.

    And what is to be single precision is: convolutions without TF32, as self-checks assume.

    Raises:
        MachineError: A setting of the environment does not let them repeat.
    """
    os.environ.setdefault(*WORKSPACE)
    if os.environ[WORKSPACE[0]] not in (WORKSPACE[1], ":16:8"):
        raise MachineError(
            f"{WORKSPACE[0]}={os.environ[WORKSPACE[0]][:20]}: with it a GPU's products do not"
            f" repeat: unset it, or set {WORKSPACE[1]}"
        )
    cudnn: Any = torch.backends.cudnn  # modules with properties
    filling: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    flags = (
        cudnn.deterministic,
        cudnn.benchmark,
        cudnn.allow_tf32,
        filling.fill_uninitialized_memory,
    )
    try:
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
        filling.fill_uninitialized_memory = False  # nothing reads what was not written
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = flags[:3]
        filling.fill_uninitialized_memory = flags[3]


def wait(where: torch.device) -> None:
    """Waits until a device has done all that it was asked for, as a clock needs it."""
    if not is_host(where):
        torch.get_device_module(where).synchronize(where)


def peak_of(work: Callable[[], object], where: torch.device) -> int | None:
    """The most bytes that a GPU's allocator held while `work` ran, above those before.

    None for a device without one.
    """
    if where.type != GPU:
        return None
    wait(where)
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    work()
    wait(where)
    return torch.cuda.max_memory_allocated(where) - before


def free_bytes(where: torch.device) -> int | None:
    """Bytes that a GPU has beside what this process holds of it; None for one without a limit.

    What other processes take meanwhile is not looked at: on equal GPUs all ranks, and every start,
    must come to the same.
    """
    if where.type != GPU:
        return None
    total = torch.cuda.get_device_properties(where).total_memory
    return total - torch.cuda.memory_allocated(where)


def held_bytes(where: torch.device) -> int:
    """Bytes that a GPU's allocator holds now; of the host those of this process."""
    if where.type == GPU:
        return torch.cuda.memory_allocated(where)
    return psutil.Process().memory_info().rss


def on_host(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The tensor in the machine's own memory, detached, as numpy and hashes need it.

    Args:
        tensor: Any shape, on any device.
        dtype: What its numbers become; None leaves them.

    Returns:
        The same shape; the tensor itself where nothing has to change.
    """
    return tensor.detach().to(HOST, dtype)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of host memory that the system may not move, which a GPU copies by itself."""
    return tensor.pin_memory()


def to_device(tensor: torch.Tensor, where: torch.device) -> torch.Tensor:
    """The tensor on a device, copied while the processor goes on where it was in host memory.

    Such a copy goes through memory that the system may not move (pinned), which torch keeps until
    the device has read it.

    Args:
        tensor: Any shape.
        where: The device.

    Returns:
        The same shape; the tensor itself where it is there already.
    """
    if tensor.device == where:
        return tensor
    if tensor.device.type == HOST:
        tensor = pinned(tensor)
    # to the host only a copy that has ended is one
    return tensor.to(where, non_blocking=where.type != HOST)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed` (public); afterwards it is restored.

    So the caller's random numbers do not depend on ours.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # not a GPU's: what is public starts on the host
        yield
