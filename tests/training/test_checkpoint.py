"""Checkpoints: whole or not there, verified before parsing, and a state that goes on to the bit."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.options import Performance, Recipe
from sfumato.training import State, latest_checkpoint, train, write_checkpoint, write_file


def state_of(adaptation, step=0):
    state = State(adaptation.trainable, {}, Recipe(learning_rate=4e-3, ema_decay=0.9))
    state.step = step
    return state


def advance(state):
    for p in state.trainable.values():
        p.grad = torch.ones_like(p) * 0.1 * (state.step + 1)
    state.optimizer.step()
    state.step += 1
    state.update_average(0.9)


def test_round_trip_continues_to_the_bit(toy, tmp_path):
    straight, first = state_of(toy()), state_of(toy())
    for _ in range(4):
        advance(straight)
    for _ in range(2):
        advance(first)
    write_checkpoint(tmp_path, first, 0, "id", "plan")
    facts, tensors = latest_checkpoint(tmp_path)
    other = state_of(toy(seed=5))
    other.restore(tensors, facts["step"])
    for _ in range(2):
        advance(other)
    assert other.step == 4
    for name, value in straight.tensors().items():
        assert torch.equal(value, other.tensors()[name]), name


def test_the_newest_two_are_kept_and_nothing_secret_is_in_them(toy, tmp_path, key):
    state = state_of(toy())
    assert latest_checkpoint(tmp_path) is None
    announced = []
    for _ in range(4):
        advance(state)
        write_checkpoint(
            tmp_path,
            state,
            1,
            key.id,
            "plan",
            lambda f: announced.append((f, len(os.listdir(tmp_path)))),
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"step-00000{i}.{kind}" for i in (3, 4) for kind in ("json", "safetensors")
    ]
    facts, tensors = latest_checkpoint(tmp_path)
    assert (facts["step"], facts["attempt"], facts["key_id"]) == (4, 1, key.id)
    assert [f["step"] for f, _ in announced] == [1, 2, 3, 4] and announced[0][1] == 0
    assert announced[-1][0] == facts
    assert {name.split("/")[0] for name in tensors} == {
        "weight",
        "average",
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    secret = bytes(range(32))
    for path in tmp_path.iterdir():
        assert secret not in path.read_bytes() and secret.hex().encode() not in path.read_bytes()


@pytest.mark.parametrize("harm", ["flip", "cut", "facts", "gone"])
def test_an_altered_checkpoint_is_refused(toy, tmp_path, harm):
    state = state_of(toy())
    advance(state)
    write_checkpoint(tmp_path, state, 0, "id", "plan")
    blob, facts = tmp_path / "step-000001.safetensors", tmp_path / "step-000001.json"
    if harm == "flip":
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
    elif harm == "cut":
        blob.write_bytes(blob.read_bytes()[:-8])
    elif harm == "facts":
        facts.write_text(facts.read_text()[:-5])
    else:
        blob.unlink()
    with pytest.raises(SfumatoError, match="newest checkpoint"):
        latest_checkpoint(tmp_path)


def test_another_models_checkpoint_is_refused(toy, tmp_path):
    state = state_of(toy(width=8))
    advance(state)
    with pytest.raises(SfumatoError, match="another model"):
        state_of(toy(width=16)).restore(state.tensors(), 1)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file.json"
    write_file(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "write":
        import builtins

        real = builtins.open

        def opening(*args, **kwargs):
            handle = real(*args, **kwargs)
            if args[1:2] == ("wb",):
                handle.close()
                full()
            return handle

        monkeypatch.setattr(builtins, "open", opening)
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(SfumatoError, match="No space left"):
        write_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.json"]


def test_a_crash_between_the_two_files_leaves_the_checkpoint_before(toy, tmp_path, monkeypatch):
    from sfumato.training import checkpoint

    state = state_of(toy())
    advance(state)
    write_checkpoint(tmp_path, state, 0, "id", "plan")
    advance(state)
    real = checkpoint.write_file

    def dies_before_the_facts(path, content):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_file", dies_before_the_facts)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, state, 0, "id", "plan")
    assert latest_checkpoint(tmp_path)[0]["step"] == 1


def test_a_loop_cut_in_two_ends_with_the_same_bits(plan_for, toy, latents, key, tmp_path):
    plan, data, recipe = (
        plan_for(20, 8, steps=6, draws=2),
        latents(20),
        Recipe(learning_rate=4e-3, ema_decay=0.9),
    )

    def go(state, adaptation, stop_at):
        return train(
            plan,
            adaptation,
            data,
            key,
            attempt=0,
            recipe=recipe,
            performance=Performance(micro_batch=3),
            state=state,
            on_step=lambda p, s: p.step < stop_at,
        )

    whole = toy()
    straight = State(whole.trainable, {}, recipe)
    assert go(straight, whole, 99)
    first = toy()
    state = State(first.trainable, {}, recipe)
    assert not go(state, first, 2)
    write_checkpoint(tmp_path, state, 0, key.id, plan.digest)
    facts, tensors = latest_checkpoint(tmp_path)
    second = toy(seed=9)
    resumed = State(second.trainable, {}, recipe)
    resumed.restore(tensors, facts["step"])
    assert go(resumed, second, 99)
    for name, value in straight.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name


def test_facts_are_json(toy, tmp_path):
    state = state_of(toy())
    advance(state)
    write_checkpoint(tmp_path, state, 0, "id", "plan")
    assert json.loads((tmp_path / "step-000001.json").read_text())["plan"] == "plan"
