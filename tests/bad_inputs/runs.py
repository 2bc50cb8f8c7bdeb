"""How the runs of the table are asked for."""

from __future__ import annotations

from sfumato.methods import Lora
from sfumato.options import Performance

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
