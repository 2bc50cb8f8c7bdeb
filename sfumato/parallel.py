"""Ranks: plain torch.distributed under torchrun; a world of one is the same code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TypeVar

import torch

from .errors import SfumatoError

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def start() -> None:
    """Join the process group, if there is one to join."""
    if world_size() > 1 and not torch.distributed.is_initialized():
        # Ranks wait for the first one to encode all images, which may take hours.
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=2))


def sum_over_ranks(tensors: Mapping[str, torch.Tensor]) -> None:
    """Add the tensors of all ranks, in place and in the mapping's order. Every rank must call it once a step."""
    if world_size() > 1:
        for tensor in tensors.values():
            torch.distributed.all_reduce(tensor)


def same_on_all_ranks(digest: str) -> bool:
    """Whether all ranks hold the same text (a hash of the trained weights)."""
    if world_size() == 1:
        return True
    held: list[str | None] = [None] * world_size()
    torch.distributed.all_gather_object(held, digest)
    return len(set(held)) == 1


def on_first_rank(action: Callable[[], T]) -> T:
    """What `action` returns (picklable), computed by rank 0 alone while the others wait; all raise, whatever its error."""
    if world_size() == 1:
        return action()
    box: list = [None, None]
    if rank() == 0:
        try:
            box[0] = action()
        except SfumatoError as error:
            box[1] = error
        except Exception:
            # Whatever it is, the others must not wait for it.
            torch.distributed.broadcast_object_list([None, SfumatoError("the first process failed, and says why")])
            raise
    torch.distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def any_rank(flag: bool) -> bool:
    """Whether any rank says yes. Every rank must call it equally often."""
    if world_size() == 1:
        return flag
    votes = torch.tensor(int(flag))
    torch.distributed.all_reduce(votes)
    return bool(votes)
