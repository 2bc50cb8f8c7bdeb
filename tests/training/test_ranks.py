"""Two ranks do what one does: same draws, same noise once, equal replicas (privacy.md section 9)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import json, sys
    from types import SimpleNamespace
    import numpy as np, torch
    from torch import nn
    from sfumato import parallel
    from sfumato.errors import SfumatoError
    from sfumato.privacy.events import PoissonGaussian
    from sfumato.privacy.keys import RunKey
    from sfumato.training import LatentData, Performance, Recipe, State, loop

    torch.set_num_threads(1)
    parallel.start()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
    torch.manual_seed(100 + parallel.rank())  # nothing may depend on this
    rng = np.random.default_rng(0)
    n = 40
    data = LatentData(rng.standard_normal((n, 2, 2, 2)).astype(np.float16), np.full((n, 2, 2, 2), 0.1, np.float16),
                      rng.integers(0, 2, n), np.arange(n), np.arange(n + 1))

    def row_losses(batch):
        x = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1).flatten(1)
        return (model(x) - batch.noise.flatten(0, 1).flatten(1)).pow(2).mean(1) * batch.weight.flatten()

    from sfumato.privacy.clipping import flat
    plan = SimpleNamespace(clip=lambda: flat(0.5), n_units=n, sampling_rate=0.02 if sys.argv[1] == "rare" else 0.3,
                           steps=26, noise_draws=2, noise_multiplier=0.7, expected_batch_size=12)
    adaptation = SimpleNamespace(model=model, trainable=dict(model.named_parameters()), row_losses=row_losses)
    state = State(adaptation.trainable, {}, Recipe())
    loop.train(plan, adaptation, data, RunKey(bytes(range(32))), attempt=0, recipe=Recipe(),
               performance=Performance(micro_batch=5), state=state, on_step=lambda p, s: True)
    assert parallel.on_first_rank(lambda: parallel.rank()) == 0
    assert parallel.any_rank(parallel.rank() == 1) == (parallel.world_size() > 1)
    try:
        parallel.on_first_rank(lambda: (_ for _ in ()).throw(SfumatoError("no")))
        raise AssertionError
    except SfumatoError as error:
        assert str(error) == "no"
    print(json.dumps(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()))
    if parallel.world_size() > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
"""


def launch(world: int, mode: str) -> list[list[float]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[2])
    started = []
    for rank in range(world):
        env = {
            **os.environ,
            "PYTHONPATH": root,
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), mode]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    found = []
    for process in started:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
        found.append(json.loads(out.strip().splitlines()[-1]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["usual", "rare"])
def test_two_ranks_are_one(mode):
    (alone,), (first, second) = launch(1, mode), launch(2, mode)
    assert first == second
    assert max(abs(a - b) for a, b in zip(alone, first)) < 1e-5
