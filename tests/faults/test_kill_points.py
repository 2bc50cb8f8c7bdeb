"""Death by SIGKILL inside a step of the real training loop; the run then goes on to the very bits
it would have had.
"""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.gradients import Engine
from sfumato.methods import Lora
from sfumato.options import Performance
from sfumato.privacy.random.keys import RunKey
from sfumato.runs.folder import Run
from sfumato.training import State, UnitBatch

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# name, owner (None: a name of the loop's module) and attribute whose second call in training ends
# the process just after it returned
POINTS = [
    ("step.sampled", "sfumato.training.loop", "poisson"),
    ("step.microbatch", UnitBatch, "__getitem__"),
    ("step.summed", Engine, "clipped_sum"),
    ("step.reduced", "sfumato.compute.ranks", "sum_over_ranks"),
    ("step.noised", "sfumato.training.loop", "add_integer_noise"),
    ("step.optimised", torch.optim.Adam, "step"),
    ("step.ema", State, "update_average"),
    ("step.counted", "sfumato.training.checkpoint", "write_file"),
]


def steady(patch):
    patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    patch.setattr("sfumato.runs.folder.RunKey.generate", lambda: RunKey(bytes(range(32))))
    patch.setattr("sfumato.runs.folder.RunKey.fresh_salt", lambda: "00" * 16)
    patch.setattr("sfumato.privacy.ledger.secret.fresh_key", lambda: bytes(32))


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    steady(monkeypatch)


@pytest.fixture(scope="module")
def settings(tiny_base):
    return {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": Lora(rank=2),
        "expected_batch_size": 8,
        "steps": 3,
        "performance": Performance(micro_batch=8, checkpoint_steps=1, precision="float32"),
    }


@pytest.fixture(scope="module")
def whole(tiny_images, settings, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        steady(patch)
        top = tmp_path_factory.mktemp("whole")
        run = verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=top / "run",
            ledger=top / "ledger.sqlite",
            **settings,
        )
        return load_file(run.model / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize(("name", "owner", "attribute"), POINTS, ids=[point[0] for point in POINTS])
def test_killed_there_it_goes_on_to_the_same_bits(
    tiny_images, settings, whole, tmp_path, monkeypatch, name, owner, attribute
):
    child = os.fork()
    if child == 0:
        try:
            import importlib

            place = importlib.import_module(owner) if isinstance(owner, str) else owner
            real, calls = getattr(place, attribute), [0]

            def fatal(*args, **kwargs):
                answer = real(*args, **kwargs)
                # Checks and measurements on dummy images, before anything is charged, do not
                # count.
                calls[0] += (tmp_path / "run" / "cache" / "done").exists()
                if calls[0] == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            setattr(place, attribute, fatal)
            verbs.adapt(
                tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings
            )
        finally:
            os._exit(3)  # it was not killed: the test fails
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, f"nobody was killed at {name}"
    run = Run.open(tmp_path / "run")
    kinds = [row.kind for row in run.ledger.rows]
    assert kinds[:3] == ["PLAN", "CHARGE", "ATTEMPT"] and not (run.folder / "model").exists()
    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)
    found = load_file(run.model / "pytorch_lora_weights.safetensors")
    assert set(found) == set(whole) and all(torch.equal(found[n], whole[n]) for n in whole)
    assert [row.kind for row in run.ledger.rows if row.kind != "NOTE"] == [
        "PLAN",
        "CHARGE",
        "ATTEMPT",
        "REPLAY",
    ]
