"""Ranks that disagree are found before anything is charged: one line says in what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..compute import fingerprint, ranks
from ..methods import Prepared
from ..records import RecordSet
from . import folder


def require_alike_start(verb: str, said: Sequence[str]) -> None:
    """Compares code, versions, device, torch's switches, and what was asked.

    Processors may differ: each rank rounds its own records' gradients, and the sums are integers.

    Args:
        verb: What the process does.
        said: Its options, as text.

    Raises:
        MachineError: A process differs from another.
    """
    if ranks.world_size() == 1:
        return
    here = fingerprint.numerics()
    ranks.require_alike(
        {
            "version of sfumato": folder.code_version(),
            "versions of libraries": folder.dependency_versions(),
            "device": here["device"],
            "switches of torch": [here["torch_switches"], here["environment"]],
            "verb": verb,
            "options": list(said),
        }
    )


def require_alike_device() -> None:
    """Compares the devices in use, which a resume knows after the run is open.

    Ranks on two kinds of device would wait for each other for ever: what carries their tensors
    follows from the device.

    Raises:
        MachineError: A process computes on another one.
    """
    ranks.require_alike({"device": fingerprint.numerics()["device"]})


def require_alike_images(records: RecordSet) -> None:
    """Compares the private images, by a digest under a key that is drawn for it.

    Raises:
        MachineError: A process sees others.
    """
    if ranks.world_size() > 1:
        key = ranks.on_first_rank(lambda: os.urandom(32))
        ranks.require_alike({"private images": records.digest(key)})


def require_alike_plan(prepared: Prepared[Any]) -> None:
    """Compares what was decided: precision, options, base and plan.

    Raises:
        MachineError: A process decided otherwise.
    """
    ranks.require_alike(
        {
            "precision": prepared.performance.precision,
            "options": prepared.options,
            "base": prepared.plan.base_digest,
            "plan": prepared.plan.digest,
        }
    )
