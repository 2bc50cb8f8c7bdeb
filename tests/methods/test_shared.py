"""`--shard-base`: ranks that keep a share of the base each learn what one process learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sfumato.compute import device, ranks
from sfumato.compute.shares import parts
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS, Full
from sfumato.methods.shared import require_shareable
from sfumato.options import Performance
from sfumato.runs.folder import Run

from .. import processes

SCRIPT = """
    import os, signal
    from sfumato.training import loop
    images, base, output, method, world, precision, die = sys.argv[1:]
    add = loop.add_integer_noise
    def noisy(sums, key, step, *args, **words):
        if die == os.environ["RANK"] and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return add(sums, key, step, *args, **words)
    loop.add_integer_noise = noisy
    if die == "resume":
        verbs.resume(images, output)
    else:
        if precision == "differs":
            precision = ("float32", "bfloat16")[int(os.environ["RANK"])]
        verbs.adapt(
            images, output=output, base=base, epsilon=2.0, delta=1e-2, method=method,
            expected_batch_size=8, steps=5, yes_public=True, anyway=True, samples_every=0,
            micro_batch=1, precision=precision, checkpoint_steps=2, shard_base=world != "1",
        )
"""


def launch(world: int, *words: object, precision: str = "float32", die: str = "never") -> list:
    """(exit code, stderr) of every rank."""
    return processes.launch(world, SCRIPT, *words, world, precision, die)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the run's model, by file and name."""
    model = Run.open(folder).model
    return {
        f"{path.relative_to(model)}:{name}": value
        for path in sorted(model.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_shares_learn_what_one_process_learns(method, tiny_images, tiny_base, tmp_path):
    """And a rank that is killed in step 4 costs nothing: the resume makes it again."""
    for world in (1, 2):
        for code, said in launch(world, tiny_images, tiny_base, tmp_path / str(world), method):
            assert code == 0, said[-2000:]
    torn = launch(2, tiny_images, tiny_base, tmp_path / "torn", method, die="1")
    assert torn[1][0] == -9 and torn[0][0] != 0
    assert "Interrupted: another process of this run has ended" in torn[0][1], torn[0][1][-2000:]
    for code, said in launch(2, tiny_images, tiny_base, tmp_path / "torn", method, die="resume"):
        assert code == 0, said[-2000:]
    alone, shared, resumed = (weights(tmp_path / name) for name in ("1", "2", "torn"))
    assert alone.keys() == shared.keys() == resumed.keys()
    for name, value in alone.items():
        assert torch.equal(shared[name], resumed[name]), name
        if method == "lora":
            assert torch.equal(value, shared[name]), name
        else:  # Adam rounds the end of a shorter row another way
            assert torch.allclose(value, shared[name], rtol=1e-3, atol=1e-6), name
    ledgers = [Run.open(tmp_path / name) for name in ("1", "2", "torn")]
    assert len({run.plan.digest for run in ledgers}) == 1
    # the folders share one ledger: each was charged once, and the torn one began one attempt
    for run in ledgers:
        kinds = [row.kind for row in run.ledger.rows]
        assert kinds.count("CHARGE") == kinds.count("ATTEMPT") == 1


@pytest.mark.slow
def test_ranks_that_disagree_charge_nothing(tiny_images, tiny_base, tmp_path, ledger_of_the_test):
    ended = launch(2, tiny_images, tiny_base, tmp_path / "run", "lora", precision="differs")
    for code, said in ended:
        assert code != 0
        assert (
            "MachineError: the processes differ in their options, and nothing was charged" in said
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("world", "method", "how", "timed", "reason"),
    [
        (1, "lora", {}, False, "there is one: start several with torchrun"),
        (2, "inversion", {}, False, "at paces of their own"),
        (2, "saliency", {}, False, "its probe's ranks"),
        (2, "evolution", {}, False, "its processes share the pictures"),
        (2, Full(warm_up="means"), {}, False, "its warm-up trains a whole base"),
        (2, "lora", {"engine": "reference"}, False, "needs --engine one-pass"),
        (2, "lora", {}, True, "--time is measured by one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(monkeypatch, world, method, how, timed, reason):
    monkeypatch.setattr(ranks, "_place", ranks.Place(0, world))
    method = METHODS[method]() if isinstance(method, str) else method
    with pytest.raises(SfumatoError, match=reason):
        require_shareable(method, Performance(shard_base=True, **how), timed)
    require_shareable(method, Performance(**how), timed)


def test_a_choice_without_a_probe_can_be_shared(monkeypatch):
    monkeypatch.setattr(ranks, "_place", ranks.Place(0, 2))
    for method in (METHODS["lora"](), METHODS["saliency"](choose="random"), METHODS["full"]()):
        require_shareable(method, Performance(shard_base=True))


def test_parts_are_called_modules_of_a_bounded_size():
    block = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]))
    model = nn.ModuleDict({"a": nn.ModuleList([block, nn.Linear(100, 4)]), "b": nn.Tanh()})
    assert list(parts(model, 60)) == [block, model["a"][1]]  # a large layer is a part by itself
    assert [type(part) for part in parts(model, 20)] == [nn.Linear] * 4


def test_the_backend_follows_what_the_machine_has(monkeypatch):
    """It is joined before the device is known, which a resume asks the run for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.carriers() == "gloo"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.carriers() == "cpu:gloo,cuda:nccl"
