"""The loop's state and its checkpoints: functions of noised sums only, written atomically."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load, save

from ..compute.device import on_host, to_device
from ..compute.shares import Shares
from ..errors import MachineError, SfumatoError
from ..options import Recipe
from ..privacy.files import sync_folder

KEEP = 2


class Standing(Protocol):
    """Where a method stands between two steps, and the tensors to go on from."""

    step: int

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it, flat."""
        ...


class State:
    """Trainable tensors, Adam's moments, the weights' moving average, and the step.

    Of tensors that ranks share, this rank's rows; `tensors` and `restore` know whole ones.
    """

    def __init__(
        self, trainable: dict[str, torch.nn.Parameter], factors: dict[str, float], recipe: Recipe
    ):
        self.shares = Shares(trainable)
        trainable = self.trainable = self.shares.own()
        self.step = 0
        self.average = {n: p.detach().clone().float() for n, p in trainable.items()}
        self.start = {n: p.detach().clone() for n, p in trainable.items()}
        groups = [
            {"params": [p], "factor": factors.get(n, 1.0), "lr": recipe.learning_rate}
            for n, p in trainable.items()
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Moves the average towards the weights, faster in the first steps."""
        # The average must not remember the public start longer than the steps justify.
        decay = min(decay, self.step / (self.step + 1))
        for name, parameter in self.trainable.items():
            self.average[name].lerp_(parameter.detach().float(), 1 - decay)

    @torch.no_grad()
    def use_average(self) -> None:
        """Puts the averaged weights, which are the output, into the model."""
        for name, parameter in self.trainable.items():
            parameter.copy_(self.average[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it, flat, in host memory; collective where ranks share tensors."""
        out: dict[str, torch.Tensor] = {}

        def keep(kind: str, name: str, own: torch.Tensor) -> None:
            # one by one: together they may be more than a device holds
            out[f"{kind}/{name}"] = on_host(self.shares.whole(name, own)).contiguous().clone()

        for name, parameter in self.trainable.items():
            moments = self.optimizer.state.get(parameter, {})
            keep("weight", name, parameter)
            keep("average", name, self.average[name])
            for key in ("exp_avg", "exp_avg_sq"):
                if key in moments:
                    keep(key, name, moments[key])
            if "step" in moments:
                out[f"step/{name}"] = on_host(torch.as_tensor(moments["step"])).clone()
        return out

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """The inverse of `tensors`; SfumatoError if the names or shapes are another model's."""
        for name, parameter in self.trainable.items():
            weight = tensors.get(f"weight/{name}")
            if weight is None or weight.shape != self.shares.shape(name):
                raise SfumatoError(
                    "the checkpoint belongs to another model: resume with the run's own options"
                )
            where = parameter.device
            # before the first step there are no moments yet
            kept = ("average", *(("exp_avg", "exp_avg_sq") if step else ()))
            here = {key: to_device(tensors[f"{key}/{name}"], where) for key in kept}
            parameter.copy_(self.shares.part(name, to_device(weight, where)))
            own = {key: self.shares.part(name, tensor).clone() for key, tensor in here.items()}
            self.average[name] = own.pop("average")
            # the count of steps stays where the optimiser has it, in host memory
            if step:
                self.optimizer.state[parameter] = own | {"step": tensors[f"step/{name}"].clone()}
        self.step = step
        now = {n: p.detach().clone() for n, p in self.trainable.items()}
        self.start = {} if step else now


def write_checkpoint(
    folder: Path,
    state: Standing,
    attempt: int,
    key_id: str,
    plan_digest: str,
    announce: Callable[[dict[str, Any]], None] = lambda facts: None,
    tensors: dict[str, torch.Tensor] | None = None,
) -> None:
    """Writes one file pair per checkpoint, each written beside, synced and renamed.

    The newest two are kept.

    Args:
        folder: The folder of the checkpoints.
        state: What is kept.
        attempt: The attempt that made it.
        key_id: Of the run key.
        plan_digest: Of the plan.
        announce: `announce(facts)` is called before anything is written, so that a ledger can know
            the
            hash first.
        tensors: What `state.tensors()` returned, if it was called already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blob = save(state.tensors() if tensors is None else tensors)
    facts = {
        "step": state.step,
        "attempt": attempt,
        "key_id": key_id,
        "plan": plan_digest,
        "bytes": len(blob),
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    announce(facts)
    stem = f"step-{state.step:06d}"
    write_file(folder / f"{stem}.safetensors", blob)
    write_file(folder / f"{stem}.json", json.dumps(facts, indent=1).encode())
    for old in sorted(folder.glob("step-*.json"))[:-KEEP]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def latest_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Facts and tensors of the newest whole checkpoint, or None; SfumatoError if it was altered."""
    files = sorted(folder.glob("step-*.json"))
    if not files:
        return None
    try:
        facts = json.loads(files[-1].read_text("utf-8"))
        blob = files[-1].with_suffix(".safetensors").read_bytes()
        whole = len(blob) == facts["bytes"] and hashlib.sha256(blob).hexdigest() == facts["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise SfumatoError(
            "the newest checkpoint cannot be read: remove it to resume from the one before"
        ) from error
    if not whole:
        raise SfumatoError(
            "the newest checkpoint was altered: its hash does not match; remove it to use the one"
            " before"
        )
    return facts, load(blob)


def write_file(path: Path, content: bytes) -> None:
    """Write all or nothing: temporary file, sync, rename, sync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MachineError(
            f"cannot write {path.name}: {error.strerror}; free some space or choose another disk"
        ) from error
    sync_folder(path.parent)
