"""Ranks: plain torch.distributed under torchrun; a world of one is the same code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from ..errors import Interrupted, MachineError, SfumatoError
from .device import carriers

T = TypeVar("T")
# what torchrun sets, and all that is read
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Which process this is (`rank`, from 0) of how many (`size`)."""

    rank: int = 0
    size: int = 1


_place = Place()  # alone, until `start` has found out otherwise; the environment is not read again
_machines: list[str] = []  # of every rank, in order: a hash of what decides its numbers


def world_size() -> int:
    """Number of processes in the group that `start` joined; 1 without one."""
    return _place.size


def rank() -> int:
    """Number of this process, from 0."""
    return _place.rank


def machines() -> list[str]:
    """A hash of what decides each rank's numbers, in order of ranks; empty for a single rank."""
    return list(_machines)


def start(describe: Callable[[], object] | None = None) -> None:
    """Joins the process group that torchrun describes, if there is one, once.

    MachineError if its variables contradict each other. A process that took itself for another one
    than it is would drop units and note nothing in the ledger, so half a description (a RANK that a
    cluster's shell left behind) is refused. `describe`: what decides this rank's numbers, as JSON,
    once the device is known: all ranks exchange it, anew for every run.
    Variables of SLURM and MPI are not read: start the processes with torchrun.
    """
    global _place
    place, distributed = declared(os.environ), torch.distributed
    if place.size > 1 and not distributed.is_initialized():
        try:
            # Ranks wait for the first one to encode all images, which may take hours.
            distributed.init_process_group(
                carriers(),  # before the device is known: a resume asks the run for it
                rank=place.rank,
                world_size=place.size,
                timeout=timedelta(days=2),
            )
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise MachineError(
                f"the processes do not find each other ({reason}): start all of them with torchrun"
            ) from error
    joined = (
        Place(distributed.get_rank(), distributed.get_world_size())
        if distributed.is_initialized()
        else Place()
    )
    if joined != place and any(name in os.environ for name in ("RANK", "WORLD_SIZE")):
        raise MachineError(
            f"RANK and WORLD_SIZE are {place.rank} of {place.size}, the process group has"
            f" {joined.rank} of {joined.size}: start all processes with torchrun, or unset both"
        )
    _place = joined
    if joined.size > 1 and describe is not None:
        held: list[str | None] = [None] * joined.size
        told = json.dumps(describe(), sort_keys=True)
        with _together():
            distributed.all_gather_object(held, hashlib.sha256(told.encode()).hexdigest()[:16])
        _machines[:] = [str(one) for one in held]


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Interrupted in place of torch's own error if another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise Interrupted(
            "another process of this run has ended, and its own message says why: start all of"
            " them again, with --resume if the run was begun"
        ) from error


def require_alike(facts: Mapping[str, object]) -> None:
    """Compares facts, JSON each, that must be the same on all ranks.

    Raises:
        MachineError: One is not; every rank names the first such.
    """
    if world_size() == 1:
        return
    told = {
        name: hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).hexdigest()
        for name, fact in facts.items()
    }
    held: list[dict[str, str]] = [{} for _ in range(world_size())]
    with _together():
        torch.distributed.all_gather_object(held, told)
    for name in held[0]:
        if len({one.get(name) for one in held}) > 1:
            raise MachineError(
                f"the processes differ in their {name}, and nothing was charged: start all of them"
                " with the same command, on machines with the same files and versions"
            )


def declared(environment: Mapping[str, str]) -> Place:
    """The place that the launcher's variables declare together.

    MachineError if they are incomplete, no numbers, or contradict each other.
    """
    said = {name: environment[name] for name in LAUNCHER if environment.get(name, "") != ""}
    cure = "start with torchrun, which sets all of them, or unset " + ", ".join(LAUNCHER[:3])
    if not said.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
        return Place()
    if not {"RANK", "WORLD_SIZE"} <= said.keys():
        if said.get("WORLD_SIZE") == "1" and "LOCAL_RANK" not in said:
            return Place()
        lacking = [name for name in ("RANK", "WORLD_SIZE") if name not in said]
        raise MachineError(
            f"the environment has {' and '.join(said)} without {' and '.join(lacking)}: {cure}"
        )
    if not all(re.fullmatch(r"[0-9]{1,9}", said[name]) for name in LAUNCHER[:3] if name in said):
        raise MachineError(f"RANK, WORLD_SIZE and LOCAL_RANK are whole numbers from 0: {cure}")
    place = Place(int(said["RANK"]), int(said["WORLD_SIZE"]))
    if place.rank >= place.size or int(said.get("LOCAL_RANK", place.rank)) > place.rank:
        raise MachineError(
            f"RANK {place.rank} does not fit WORLD_SIZE {place.size} or LOCAL_RANK: {cure}"
        )
    if place.size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= said.keys():
        raise MachineError(
            f"WORLD_SIZE is {place.size}, but no MASTER_ADDR and MASTER_PORT say where the others"
            f" are: {cure}"
        )
    return place


def sum_over_ranks(tensors: Mapping[str, torch.Tensor]) -> None:
    """Add the tensors of all ranks, in place and in the mapping's order.

    Every rank must call it once a step.
    """
    if world_size() > 1:
        with _together():
            for tensor in tensors.values():
                torch.distributed.all_reduce(tensor)


def same_on_all_ranks(digest: str) -> bool:
    """Whether all ranks hold the same text (a hash of the trained weights)."""
    if world_size() == 1:
        return True
    held: list[str | None] = [None] * world_size()
    with _together():
        torch.distributed.all_gather_object(held, digest)
    return len(set(held)) == 1


def on_first_rank(action: Callable[[], T]) -> T:
    """What `action` returns (picklable), computed by rank 0 alone while the others wait.

    All ranks raise its error, whatever it is.
    """
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
            torch.distributed.broadcast_object_list(
                [None, SfumatoError("the first process failed; its message has the reason")]
            )
            raise
    with _together():
        torch.distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank. Every rank must call it equally often."""
    if world_size() == 1:
        return flag
    return bool(largest(int(flag)))


def largest(value: int) -> int:
    """The largest of all ranks' values. Every rank must call it equally often."""
    held = torch.tensor(value, dtype=torch.int64)
    if world_size() > 1:
        with _together():
            torch.distributed.all_reduce(held, op=torch.distributed.ReduceOp.MAX)
    return int(held)
