"""The memory of one pass: what it may take, and what to say where one record takes more."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from ..bases import Base
from ..compute.device import free_bytes
from ..compute.memory import out_of_memory
from ..errors import MachineError, SfumatoError

ON_HOST = 2**30  # unless told otherwise
SHARE = 0.8  # of what a GPU has free
KEPT = 12  # bytes of a trainable number that the optimiser and the average take later on


def budget(asked: int | None, where: torch.device, trainable: int) -> int:
    """Bytes that one pass may take beside weights and optimiser.

    Of a GPU's own count of what is free; it follows from the machine and from public settings.

    Args:
        asked: The option.
        where: The device.
        trainable: How many numbers train.
    """
    if asked is not None:
        return asked
    free = free_bytes(where)
    return ON_HOST if free is None else max(1, int(SHARE * (free - KEPT * trainable)))


def alone(base: Base) -> str:
    """Why units pass one at a time, whose rounding would otherwise tell of others; or nothing."""
    if base.ragged:
        return f"the longest prompt of a pass changes the rounding of all in a {base.family} base"
    if base.buckets:
        return "with --buckets how many units of a size come together depends on others"
    return ""


def require_room(
    fitting: int, one: int, asked: int | None, where: torch.device, budget: int
) -> int:
    """How many records fit, at least one.

    Args:
        fitting: As measured.
        one: Bytes of one record.
        asked: The option.
        where: The device.
        budget: Bytes of one pass.

    Returns:
        `fitting`; on the host, whose limit nobody set, 1 for none.

    Raises:
        SfumatoError: Not even one record fits into what was asked for.
        MachineError: Nor into what a GPU has free.
    """
    if fitting:
        return fitting
    helps = "--gradient-checkpointing, fewer --noise-draws, --method lora or a smaller base help"
    if asked is not None:
        raise SfumatoError(
            f"--memory-budget {shown(budget)}: one unit takes {shown(one)} in one pass: give that;"
            f" {helps}"
        )
    if free_bytes(where) is None:
        return 1
    raise MachineError(
        f"one unit takes {shown(one)} in one pass, and the device has {shown(budget)} for it:"
        f" {helps}, or another --device"
    )


def shown(count: int) -> str:
    """Bytes as an option takes them, rounded up."""
    if count >= 2**30:
        return f"{-(-count * 10 // 2**30) / 10:g}GB"
    return f"{-(-count // 2**20)}MB"


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Says in one line that a trial pass on dummy records had not the memory.

    Raises:
        MachineError: It had not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        needs = re.search(r"Tried to allocate ([0-9.]+ ?[KMG]i?B)", str(error))
        more = f" (it asked for {needs[1]} more)" if needs else ""
        raise MachineError(
            f"a trial pass does not fit into memory{more}: a smaller --micro-batch-size,"
            " --gradient-checkpointing, fewer --noise-draws, --method lora or a smaller base help,"
            " or another --device"
        ) from error
