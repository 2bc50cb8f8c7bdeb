"""How the runs of the table are asked for."""

from __future__ import annotations

from pathlib import Path

from sfumato import verbs
from sfumato.methods import Lora
from sfumato.options import Performance
from sfumato.runs.folder import Run

SETTINGS = {
    "epsilon": 2.0,
    "delta": 1e-2,
    "method": Lora(rank=2),
    "expected_batch_size": 4,
    "steps": 3,
    "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
}
ADAPT = (
    "adapt",
    "{images}",
    "--base",
    "{base}",
    "--epsilon",
    "4",
    "--anyway",
    "--yes-public",
    "-o",
    "{tmp}/run",
)


def adapted(kit, name: str = "run", images: Path | None = None, **more) -> Run:
    """A whole run on the tiny base, in a folder of that name."""
    return verbs.adapt(
        images or kit.images,
        anyway=True,
        yes_public=True,
        output=kit.tmp / name,
        base=str(kit.base),
        **SETTINGS,
        **more,
    )
