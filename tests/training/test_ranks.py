"""Several ranks do what one does: same draws, same noise once, equal replicas (privacy.md
section 9), and where every rank keeps a share of the weights, the same shares.
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
    import hashlib, json, os, sys
    from types import SimpleNamespace
    import numpy as np, torch
    # what optimiser and shares load: once here, not in every fork
    import torch._dynamo, torch.distributed.fsdp, torch.distributed.tensor
    from torch import nn
    from sfumato.compute import ranks as parallel
    from sfumato.compute.shares import share
    from sfumato.errors import SfumatoError
    from sfumato.privacy.clipping import flat
    from sfumato.privacy.random.keys import RunKey
    from sfumato.privacy.rounding import Rounding
    from sfumato.options import Performance, Recipe
    from sfumato.training import LatentData, State, loop

    def rank_of(rate, micro, shared, steps):
        torch.set_num_threads(1)
        parallel.start()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8))
        if shared:
            share(model)
        torch.manual_seed(100 + parallel.rank())  # nothing may depend on this
        rng = np.random.default_rng(0)
        n = 40
        data = LatentData(rng.standard_normal((n, 2, 2, 2)).astype(np.float16), np.full((n, 2, 2, 2), 0.1, np.float16),
                          rng.integers(0, 2, n), np.arange(n), np.arange(n + 1))

        def row_losses(batch):
            x = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1).flatten(1)
            return (model(x) - batch.noise.flatten(0, 1).flatten(1)).pow(2).mean(1) * batch.weight.flatten()

        rounding = Rounding.of(0.5, 300)
        plan = SimpleNamespace(clip=lambda: flat(0.5), rounding=rounding, trainable=300, n_units=n, sampling_rate=rate, steps=steps, noise_draws=2,
                               noise_multiplier=0.7, expected_batch_size=12)
        adaptation = SimpleNamespace(base=SimpleNamespace(times=1000), model=model, trainable=dict(model.named_parameters()), row_losses=row_losses)
        state = State(adaptation.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
        sums, add = [], loop.add_integer_noise
        def noisy(totals, *args, **words):
            sums.append({name: total.clone() for name, total in totals.items()})
            return add(totals, *args, **words)
        loop.add_integer_noise = noisy
        loop.train(plan, adaptation, data, RunKey(bytes(range(32))), attempt=0, recipe=Recipe(learning_rate=4e-3, ema_decay=0.9),
                   performance=Performance(micro_batch=micro), state=state, on_step=lambda p, s: True)
        large = {"w": torch.tensor([2**40 + 1, 2**24 + 1])}  # no float would hold both sums to the last unit
        parallel.sum_over_ranks(large)
        assert large["w"].tolist() == [parallel.world_size() * (2**40 + 1), parallel.world_size() * (2**24 + 1)]
        assert parallel.on_first_rank(lambda: parallel.rank()) == 0
        assert parallel.any_rank(parallel.rank() == 1) == (parallel.world_size() > 1)
        parallel.require_alike({"version": "1", "options": [1]})
        try:
            parallel.require_alike({"version": "1", "device": parallel.rank(), "options": [1]})
            assert parallel.world_size() == 1
        except SfumatoError as error:
            assert "the processes differ in their device, and nothing was charged" in str(error)
        assert parallel.largest(parallel.rank()) == parallel.world_size() - 1
        try:
            parallel.on_first_rank(lambda: (_ for _ in ()).throw(SfumatoError("no")))
            raise AssertionError
        except SfumatoError as error:
            assert str(error) == "no"
        loop.add_integer_noise = add
        if shared:
            value = 2**40 + 1
            large = state.shares.add_up({n: torch.full(p.shape, value) for n, p in adaptation.trainable.items()})
            assert all((part == parallel.world_size() * value).all() for part in large.values())
        whole = lambda named: torch.cat([state.shares.whole(n, named[n]).flatten() for n in state.trainable])
        first = whole(sums[0])
        return {"weights": whole({n: p.detach() for n, p in state.trainable.items()}).tolist(),
                "first": first.tolist(), "room": rounding.slack / (1 + rounding.slack) * rounding.bound,
                "sums": hashlib.sha256(torch.stack([whole(s) for s in sums]).numpy().tobytes()).hexdigest()}

    folder, jobs = sys.argv[1], json.loads(sys.argv[2])
    for name, rate, world, micro, shared, steps, port in jobs:
        children = []
        for rank in range(world):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                                   "MASTER_PORT": str(port)}
                    found = rank_of(rate, micro, shared, steps)
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


def run(folder: Path, jobs: list[tuple]) -> dict[tuple[str, int, int], dict]:
    """(name, world, rank) -> what the rank found, for jobs (name, rate, world, micro, shared, steps)."""
    root = str(Path(__file__).parents[2])
    with_ports = [(*job, free_port()) for job in jobs]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), json.dumps(with_ports)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for name, _, world, *_ in jobs:
        for rank in range(world):
            file = folder / f"{name}-{world}-{rank}.json"
            assert file.exists(), done.stderr[-2000:]
            found[name, world, rank] = json.loads(file.read_text())
    return found


def test_two_forked_ranks_are_one(tmp_path):
    """Usual batches, and rare ones where a rank's slice, or the whole draw, is often empty."""
    ways = (("usual", 0.3), ("rare", 0.02))
    found = run(tmp_path, [(*way, world, 5, False, 26) for way in ways for world in (1, 2)])
    for name, _ in ways:
        alone, first, second = (found[name, w, r] for w, r in ((1, 0), (2, 0), (2, 1)))
        assert first == second
        apart = zip(alone["weights"], first["weights"], strict=True)
        assert max(abs(a - b) for a, b in apart) < 1e-5
        moved = (a - b for a, b in zip(alone["first"], first["first"], strict=True))
        assert sum(m * m for m in moved) ** 0.5 <= alone["room"]  # rho


def test_ranks_add_up_the_very_integers_of_one(tmp_path):
    """Where the cut by slots is the same, a record in each pass: whole or shared, 1, 2 or 4 ranks,
    more of them than some tensors have rows.
    """
    ways = [(1, False), (2, False), (4, False), (2, True), (4, True)]
    jobs = [(f"shared-{s}", 0.3, world, 1, s, 4) for world, s in ways]
    jobs += [("rare", 0.02, 1, 1, False, 8), ("rare", 0.02, 2, 1, False, 8)]
    jobs.append(("rare-shared", 0.02, 2, 1, True, 8))
    found = run(tmp_path, jobs)
    for (name, _, _), one in found.items():
        alone = found["rare" if name.startswith("rare") else "shared-False", 1, 0]
        assert one["first"] == alone["first"], name
        if name not in (
            "shared-True",
            "rare-shared",
        ):  # where Adam may round the end of a shorter row another way
            assert (one["sums"], one["weights"]) == (alone["sums"], alone["weights"]), name
        apart = zip(one["weights"], alone["weights"], strict=True)
        assert max(abs(a - b) for a, b in apart) < 1e-6
