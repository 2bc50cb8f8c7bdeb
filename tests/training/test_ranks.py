"""Two ranks do what one does: same draws, same noise once, equal replicas (privacy.md
section 9).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

# One interpreter loads torch and forks the ranks of every world, so that the test takes seconds.
SCRIPT = """
    import json, os, sys
    from types import SimpleNamespace
    import numpy as np, torch
    import torch._dynamo, torch.distributed  # the optimiser loads it: once here, not in every fork
    from torch import nn
    from sfumato.compute import ranks as parallel
    from sfumato.errors import SfumatoError
    from sfumato.privacy.clipping import flat
    from sfumato.privacy.random.keys import RunKey
    from sfumato.privacy.rounding import Rounding
    from sfumato.options import Performance, Recipe
    from sfumato.training import LatentData, State, loop

    def rank_of(rate):
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

        rounding = Rounding.of(0.5, 300)
        plan = SimpleNamespace(clip=lambda: flat(0.5), rounding=rounding, trainable=300, n_units=n, sampling_rate=rate, steps=26, noise_draws=2,
                               noise_multiplier=0.7, expected_batch_size=12)
        adaptation = SimpleNamespace(base=SimpleNamespace(times=1000), model=model, trainable=dict(model.named_parameters()), row_losses=row_losses)
        state = State(adaptation.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
        loop.train(plan, adaptation, data, RunKey(bytes(range(32))), attempt=0, recipe=Recipe(learning_rate=4e-3, ema_decay=0.9),
                   performance=Performance(micro_batch=5), state=state, on_step=lambda p, s: True)
        large = {"w": torch.tensor([2**40 + 1, 2**24 + 1])}  # no float would hold both sums to the last unit
        parallel.sum_over_ranks(large)
        assert large["w"].tolist() == [parallel.world_size() * (2**40 + 1), parallel.world_size() * (2**24 + 1)]
        assert parallel.on_first_rank(lambda: parallel.rank()) == 0
        assert parallel.any_rank(parallel.rank() == 1) == (parallel.world_size() > 1)
        try:
            parallel.on_first_rank(lambda: (_ for _ in ()).throw(SfumatoError("no")))
            raise AssertionError
        except SfumatoError as error:
            assert str(error) == "no"
        return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()

    folder, jobs = sys.argv[1], json.loads(sys.argv[2])
    for name, rate, world, port in jobs:
        children = []
        for rank in range(world):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                                   "MASTER_PORT": str(port)}
                    found = rank_of(rate)
                    with open(f"{folder}/{name}-{world}-{rank}.json", "w") as file:
                        json.dump(found, file)
                    if world > 1:
                        torch.distributed.barrier()
                        torch.distributed.destroy_process_group()
                    code = 0
                except BaseException as error:
                    print(f"{name}, rank {rank} of {world}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                finally:
                    os._exit(code)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_forked_ranks_are_one(tmp_path):
    """Usual batches, and rare ones where a rank's slice, or the whole draw, is often empty."""
    root = str(Path(__file__).parents[2])
    jobs = [
        (name, rate, world, free_port())
        for name, rate in (("usual", 0.3), ("rare", 0.02))
        for world in (1, 2)
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), json.dumps(jobs)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("usual", "rare"):
        files = [
            tmp_path / f"{name}-{world}-{rank}.json" for world, rank in ((1, 0), (2, 0), (2, 1))
        ]
        assert all(file.exists() for file in files), done.stderr[-2000:]
        alone, first, second = (json.loads(file.read_text()) for file in files)
        assert first == second
        assert max(abs(a - b) for a, b in zip(alone, first)) < 1e-5
