"""Two ranks ask the same units, add integers, and draw one noise: the same scores and the same
choice as one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sfumato.runs.folder import Run

SCRIPT = """
    import sys
    import torch
    torch.set_num_threads(1)
    from sfumato import verbs
    from sfumato.compute import ranks as parallel
    from sfumato.privacy import accounting
    from sfumato.privacy.random.keys import RunKey
    from sfumato.options import Performance

    accounting.CERTIFICATE_GRID = accounting.PLANNING_GRID = 1e-2
    RunKey.generate = classmethod(lambda cls: cls(bytes(range(32))))
    RunKey.fresh_salt = lambda: "00" * 16
    images, base, output = sys.argv[1:]
    run = verbs.adapt(images, output=output, epsilon=4.0, delta=1e-2, base=base, yes_public=True, method="saliency", expected_batch_size=8,
                      steps=2, keep=5, probe_units=12, probe_draws=2, rank=2,
                      performance=Performance(micro_batch=8, precision="float32"))
    if parallel.world_size() > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
"""


def launch(world: int, images: Path, base: Path, output: Path) -> dict:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(world),
    }
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(images), str(base), str(output)]
    started = [
        subprocess.Popen(
            words,
            env={**os.environ, **shared, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
    (probe,) = Run.open(output).ledger.bodies("PROBE")
    return probe


@pytest.mark.slow
def test_two_ranks_choose_as_one(tiny_images, tiny_base, tmp_path):
    assert launch(1, tiny_images, tiny_base, tmp_path / "one") == launch(
        2, tiny_images, tiny_base, tmp_path / "two"
    )
