"""Two ranks share the chunks, one adds them up: the same token as one process makes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sfumato.bases import embeds_files
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
    run = verbs.adapt(images, output=output, epsilon=4.0, delta=1e-2, base=base, yes_public=True, method="inversion", prompt="a {class} circle",
                      dimensions=4, inversion_steps=2, inversion_draws=1,
                      performance=Performance(micro_batch=5, precision="float32"))
    if parallel.world_size() > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
"""


def launch(world: int, images: Path, base: Path, output: Path) -> list[bytes]:
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
    return [path.read_bytes() for path in embeds_files(Run.open(output).model)]


@pytest.mark.slow
def test_two_ranks_release_what_one_does(tiny_images, tiny_base, tmp_path):
    one, two = (launch(n, tiny_images, tiny_base, tmp_path / f"run-{n}") for n in (1, 2))
    assert len(one) == 3 and one == two
