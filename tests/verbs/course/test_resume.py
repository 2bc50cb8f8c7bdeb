"""Killed, stopped and copied runs: a replay draws the same to the bit, anything else is paid."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch

from sfumato import verbs
from sfumato.bases import latents
from sfumato.errors import Interrupted, MachineError, SfumatoError
from sfumato.methods import dpsgd
from sfumato.privacy.ledger.entries import Released
from sfumato.runs.facts import ledger_facts
from sfumato.runs.folder import Run

from .runs import KINDS, Killed, copied, crashed, dies_after, kinds, resume, same_weights

TRUSTED_GRADIENTS = True


def test_a_death_between_charge_and_start_costs_nothing_twice(
    tiny_images, settings, tmp_path, monkeypatch
):
    def dies(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "begin", dies)
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            **settings | {"steps": 1},
        )
    assert kinds(Run.open(tmp_path / "run")) == KINDS[:2]
    assert kinds(verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)) == KINDS


def test_a_copied_run_folder_cannot_go_on_beside_the_original(broken, tiny_images, tmp_path):
    copy = Run.open(shutil.copytree(broken.folder, tmp_path / "copy"), broken.ledger_path)
    with pytest.raises(Killed):
        resume(broken, tiny_images, new_attempt=True, progress=dies_after(5))
    with pytest.raises(SfumatoError, match="older copy of its run"):
        resume(copy, tiny_images, new_attempt=True, progress=dies_after(5))
    salts = [row.body["salt"] for row in copy.ledger.rows if row.kind == "ATTEMPT"]
    assert len(set(salts)) == 2 and copy.ledger.attempts == 2


def test_a_stopped_run_replays_to_the_same_bits(tiny_images, settings, finished, tmp_path, one_key):
    def stop(now, plan):
        if now.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped at step 3 of 5") as caught:
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            progress=stop,
            **settings,
        )
    assert caught.value.exit_code == 75 and signal.getsignal(signal.SIGTERM) is before
    torch.manual_seed(1)
    run = verbs.adapt(tiny_images, output=tmp_path / "run", resume=True)
    assert same_weights(run, finished)
    assert kinds(run) == [*KINDS, "REPLAY"] and run.ledger.bodies("REPLAY")[0] == {
        "attempt": 0,
        "from_step": 3,
    }
    assert ledger_facts(run).events == ledger_facts(finished).events
    assert ledger_facts(run).replays == 1


@pytest.mark.parametrize("step", [1, 3])
def test_a_killed_run_replays_to_the_same_bits(
    tiny_images, settings, finished, tmp_path, one_key, step
):
    """Step 1: before any checkpoint. Step 3: one step after the checkpoint at 2. Twice, to replay a
    replay.
    """
    run = crashed(tiny_images, settings, tmp_path / "run", step)
    assert not (run.folder / "model").exists()
    with pytest.raises(Killed):
        verbs.adapt(tiny_images, output=run.folder, resume=True, progress=dies_after(4))
    run = verbs.adapt(tiny_images, output=run.folder, resume=True)
    assert same_weights(run, finished) and kinds(run) == [*KINDS, "REPLAY", "REPLAY"]
    assert [b["from_step"] for b in run.ledger.bodies("REPLAY")] == [0 if step == 1 else 2, 4]


def test_a_death_while_encoding_replays_to_the_same_bits(
    tiny_images, settings, finished, tmp_path, one_key, monkeypatch
):
    real = latents.encode
    monkeypatch.setattr(latents, "encode", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)
    monkeypatch.setattr(latents, "encode", real)
    assert same_weights(verbs.adapt(tiny_images, output=tmp_path / "run", resume=True), finished)


def test_a_death_while_saving_leaves_a_run_that_finishes(
    tiny_images, settings, finished, tmp_path, one_key
):
    def stage(name):
        if name == "saving":
            raise Killed

    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            on_stage=stage,
            **settings,
        )
    assert same_weights(verbs.adapt(tiny_images, output=tmp_path / "run", resume=True), finished)


def test_a_finished_run_is_not_resumed_nor_overwritten(finished, tiny_images, settings):
    with pytest.raises(SfumatoError, match="is already finished"):
        verbs.adapt(tiny_images, output=finished.folder, resume=True)
    with pytest.raises(SfumatoError, match="exists"):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=finished.folder, **settings)


def test_other_data_are_refused(broken, tiny_images, tmp_path):
    other = shutil.copytree(tiny_images, tmp_path / "other")
    (other / "circle" / "000.png").write_bytes((other / "circle" / "001.png").read_bytes())
    for more in ({}, {"new_attempt": True}):
        with pytest.raises(SfumatoError, match="not those of the run"):
            resume(broken, other, **more)
    (other / "circle" / "000.png").unlink()
    with pytest.raises(SfumatoError, match="not those of the run"):
        resume(broken, other)


def test_other_code_or_versions_need_a_new_attempt(broken, tiny_images, monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "another")
    with pytest.raises(SfumatoError, match="same code"):
        resume(broken, tiny_images)


def test_another_device_needs_a_new_attempt(broken, tiny_images, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr("sfumato.compute.fingerprint.describe", lambda: "cuda: NVIDIA X, driver 1")
        with pytest.raises(SfumatoError, match="a free replay needs the same device as when"):
            resume(broken, tiny_images)
        with pytest.raises(Killed):
            resume(broken, tiny_images, new_attempt=True, progress=dies_after(5))
    assert broken.ledger.bodies("ATTEMPT")[-1]["billed"] == 2
    rows = len(broken.ledger.rows)
    for more in ({}, {"new_attempt": True}):  # it goes on where it was, and nothing is paid twice
        with pytest.raises(MachineError, match="^--device cuda: torch "):
            resume(broken, tiny_images, **more)
    with pytest.raises(SfumatoError, match="a free replay needs the same device as when"):
        resume(broken, tiny_images, device="cpu")
    assert len(broken.ledger.rows) == rows
    assert resume(broken, tiny_images, device="cpu", new_attempt=True).model.is_dir()


def test_a_checkpoint_that_the_ledger_does_not_know_is_refused(broken, tiny_images):
    import hashlib

    path = broken.folder / "checkpoints" / "step-000004.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(SfumatoError, match="altered"):
        resume(broken, tiny_images)
    facts = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(
        json.dumps(facts | {"sha256": hashlib.sha256(blob).hexdigest()})
    )
    with pytest.raises(SfumatoError, match="not the one that the ledger knows"):
        resume(broken, tiny_images)


def test_another_runs_checkpoint_is_refused(broken, finished, tiny_images):
    for path in (finished.folder / "checkpoints").iterdir():
        shutil.copy(path, broken.folder / "checkpoints")
    with pytest.raises(SfumatoError, match="another run"):
        resume(broken, tiny_images)


def test_a_replay_after_a_release_is_refused(broken, tiny_images):
    broken.record(Released(sort="images"))
    with pytest.raises(SfumatoError, match="released already"):
        resume(broken, tiny_images)


def test_an_older_checkpoint_replays_the_same_draws(broken, tiny_images, tmp_path, monkeypatch):
    """Losing the newest checkpoint costs time only: the same address gives the same draws."""
    twin = copied(broken, tmp_path / "twin")
    for path in (twin.folder / "checkpoints").glob("step-000004.*"):
        path.unlink()
    first = resume(broken, tiny_images)
    # here the twin is seen to be an older copy
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-machine"))
    assert same_weights(first, resume(twin, tiny_images))


def test_a_new_attempt_is_paid_from_the_reserve(broken, tiny_images, tmp_path, monkeypatch):
    twin = copied(broken, tmp_path / "twin")
    assert broken.plan.retry_steps == 6 and broken.plan.events[-1].steps == 12
    with pytest.raises(Killed):
        resume(broken, tiny_images, new_attempt=True, progress=dies_after(5))
    second = broken.ledger.bodies("ATTEMPT")[-1]
    assert (second["attempt"], second["from_step"], second["billed"]) == (1, 4, 2)
    with pytest.raises(Killed):
        resume(broken, tiny_images, new_attempt=True, progress=dies_after(5))
    assert broken.ledger.bodies("ATTEMPT")[-1]["billed"] == 2
    run = resume(broken, tiny_images, new_attempt=True)  # the third and last that the reserve pays
    assert (
        kinds(run) == [*KINDS, "ATTEMPT", "ATTEMPT", "ATTEMPT"] and ledger_facts(run).attempts == 4
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-machine"))
    assert not same_weights(run, resume(twin, tiny_images))  # fresh draws


def test_a_new_attempt_from_an_older_checkpoint_costs_all_that_ran(broken, tiny_images):
    for path in (broken.folder / "checkpoints").glob("step-000004.*"):
        path.unlink()
    with pytest.raises(Killed):
        resume(broken, tiny_images, new_attempt=True, progress=dies_after(3))
    # 2 to 4, and up to 6 that may have run
    assert broken.ledger.bodies("ATTEMPT")[-1]["billed"] == 4
    shutil.rmtree(broken.folder / "checkpoints")
    with pytest.raises(SfumatoError, match="cannot be repeated"):
        resume(broken, tiny_images)
    with pytest.raises(SfumatoError, match="reserve is spent.*8 needed"):
        resume(broken, tiny_images, new_attempt=True)


def test_without_a_reserve_there_is_no_new_attempt(tiny_images, settings, tmp_path):
    run = crashed(tiny_images, settings, tmp_path / "run", 3)
    with pytest.raises(SfumatoError, match="reserve is spent"):
        resume(run, tiny_images, new_attempt=True)
    assert kinds(run) == KINDS


def test_two_copies_that_end_one_attempt_with_other_numbers(
    broken, tiny_images, tmp_path, monkeypatch
):
    """The same noise on sums that were rounded otherwise, as on other hardware: only one of the two
    may be finished.
    """
    copy = Run.open(shutil.copytree(broken.folder, tmp_path / "copy"), broken.ledger_path)
    resume(broken, tiny_images)
    right = dpsgd.train

    def otherwise(plan, adaptation, *rest, state, **more):
        done = right(plan, adaptation, *rest, state=state, **more)
        next(iter(state.average.values())).add_(1e-6)
        return done

    monkeypatch.setattr(dpsgd, "train", otherwise)
    with pytest.raises(SfumatoError, match="older copy of its run|the same noise"):
        resume(copy, tiny_images)
    assert not (copy.folder / "model").exists()


def test_two_processes_in_one_folder(broken, tiny_images):
    import fcntl

    with open(broken.folder / "active.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(SfumatoError, match="another process"):
            resume(broken, tiny_images)
    assert kinds(broken) == KINDS
