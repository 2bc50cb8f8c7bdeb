from __future__ import annotations

import pytest

from sfumato import verbs
from sfumato.methods import Lora
from sfumato.options import Performance

from .runs import copied, crashed, same_draws, steady


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    steady(monkeypatch)


@pytest.fixture
def one_key(monkeypatch):
    """Every run of the test gets the same key, so that runs can be compared to the bit."""
    same_draws(monkeypatch)


@pytest.fixture(scope="module")
def settings(tiny_base):
    return {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": Lora(rank=2),
        "expected_batch_size": 8,
        "steps": 5,
        "noise_draws": 2,
        "performance": Performance(micro_batch=8, checkpoint_steps=2, precision="float32"),
    }


@pytest.fixture(scope="module")
def finished(tiny_images, settings, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        steady(patch)
        same_draws(patch)
        folder = tmp_path_factory.mktemp("runs")
        ledger = folder / "book" / "ledger.sqlite"  # its key decides the order of the slots
        return verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=folder / "run",
            ledger=ledger,
            **settings,
        )


@pytest.fixture(scope="module")
def interrupted(tiny_images, settings, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        steady(patch)
        folder = tmp_path_factory.mktemp("runs") / "interrupted"
        return crashed(tiny_images, settings, folder, 5, steps=6, retry_fraction=1.0)


@pytest.fixture
def broken(interrupted, tmp_path):
    """A run of 6 steps that died after step 5; checkpoints at 2 and 4; a reserve of 6 steps."""
    return copied(interrupted, tmp_path / "broken")
