"""The verbs end to end on a tiny base: charge before read, kill and resume, release and verify."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.bases import latents
from sfumato.errors import Interrupted, MachineError, SfumatoError
from sfumato.methods import Attention, Lora, checks, dpsgd
from sfumato.options import Performance, Sampling
from sfumato.planning import timing
from sfumato.privacy.ledger.entries import Released
from sfumato.privacy.random.keys import RunKey
from sfumato.records import RecordSet, load_records
from sfumato.runs import budget, execute
from sfumato.runs.facts import ledger_facts
from sfumato.runs.folder import Run

CLASSES = ("circle", "cross", "square")
KINDS = ["PLAN", "CHARGE", "ATTEMPT"]


def steady(patch):
    """One code version, though somebody may be editing."""
    patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    steady(monkeypatch)


def same_draws(patch):
    patch.setattr("sfumato.runs.folder.RunKey.generate", lambda: RunKey(bytes(range(32))))
    patch.setattr("sfumato.runs.folder.RunKey.fresh_salt", lambda: "00" * 16)
    # it decides the order of the slots
    patch.setattr("sfumato.privacy.ledger.secret.fresh_key", lambda: bytes(32))


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


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies_after(step):
    def progress(now, plan):
        if now.step == step:
            raise Killed

    return progress


def weights(run):
    return load_file(run.model / "pytorch_lora_weights.safetensors")


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def kinds(run):
    return [row.kind for row in run.ledger.rows if row.kind != "NOTE"]


def copied(run, to):
    """The run folder and the owner's ledger as they are now, somewhere else."""
    book = shutil.copytree(run.ledger_path.parent, to.with_name(to.name + "-ledger"))
    return Run.open(shutil.copytree(run.folder, to), book / run.ledger_path.name)


def crashed(tiny_images, settings, folder, step, **more):
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            anyway=True,
            yes_public=True,
            output=folder,
            progress=dies_after(step),
            **settings | more,
        )
    return Run.open(folder)


def test_a_run_folder_is_complete_and_private(finished):
    assert kinds(finished) == KINDS
    names = {p.name for p in finished.folder.iterdir()}
    assert {
        "PRIVATE",
        "plan.json",
        "run.key",
        "run.json",
        "cache",
        "checkpoints",
        "model",
        "metrics.jsonl",
    } <= names
    rows = [
        json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5] and set(rows[0]) == {
        "step",
        "epsilon",
        "learning_rate",
    }
    assert rows[-1]["epsilon"] == finished.plan.epsilon <= 2.0
    assert finished.ledger.charged_events() == finished.plan.to_json()["events"]
    assert not list(finished.folder.glob("*.part"))


def test_every_checkpoint_is_in_the_ledger(finished):
    noted = [n for n in finished.ledger.bodies("NOTE") if "checkpoint" in n]
    assert [n["checkpoint"] for n in noted] == [2, 4, 5]
    facts = json.loads(sorted((finished.folder / "checkpoints").glob("*.json"))[-1].read_text())
    assert facts["sha256"] == noted[-1]["sha256"] and facts["step"] == 5


def test_no_secret_lies_outside_the_key_file(finished):
    secret = bytes(range(32))
    for path in finished.folder.rglob("*"):
        if path.is_file() and path.name != "run.key":
            blob = path.read_bytes()
            assert secret not in blob and secret.hex().encode() not in blob, path.name


def test_the_charge_is_durable_before_a_pixel_is_read_for_training(
    tiny_images, settings, tmp_path, monkeypatch
):
    seen = []
    real = RecordSet.load

    def load(self, indices, resolution):
        if self.source == records.source:  # and not the dummies that `plan` times
            seen.append(kinds(Run.open(tmp_path / "run")))
        return real(self, indices, resolution)

    records = load_records(tiny_images)
    monkeypatch.setattr(RecordSet, "load", load)
    assert not seen
    verbs.plan(records, **settings)
    assert not seen
    verbs.adapt(
        records, anyway=True, yes_public=True, output=tmp_path / "run", **settings | {"steps": 1}
    )
    assert seen and all(found == KINDS for found in seen)


def test_a_charge_that_the_disk_refuses_reads_nothing(tiny_images, settings, tmp_path, monkeypatch):
    def refuse(*_):
        raise SfumatoError("the ledger could not be written (No space left on device)")

    monkeypatch.setattr(Run, "charge", refuse)
    monkeypatch.setattr(RecordSet, "load", lambda *_: pytest.fail("pixels were read"))
    with pytest.raises(SfumatoError, match="No space left"):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)


def test_the_same_pictures_under_other_names_add_up_and_meet_the_cap(
    tiny_images, settings, tmp_path, monkeypatch
):
    """Renamed, split, and stored in another lossless format: what was charged on them counts."""

    def dies(*_):
        raise Killed

    monkeypatch.setattr(timing, "_reading", lambda base, count: 0.0)  # what `plan` times
    monkeypatch.setattr(latents, "encode", dies)
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images, anyway=True, yes_public=True, output=tmp_path / "first", **settings
        )
    first = Run.open(tmp_path / "first")
    half = tmp_path / "half"
    for number, picture in enumerate(sorted(tiny_images.glob("*/*.png"))[::-2]):
        (half / picture.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(picture).save(half / picture.parent.name / f"x{number}.bmp")
    said = []
    with pytest.raises(Killed):
        verbs.adapt(
            half,
            anyway=True,
            yes_public=True,
            output=tmp_path / "second",
            on_stage=said.append,
            **settings | {"delta": None},
        )
    second = Run.open(tmp_path / "second")
    assert any("have cost epsilon" in line and "in 1 earlier run" in line for line in said)
    assert second.plan.delta == first.plan.delta, (
        "only equal deltas add up, so the first one is taken"
    )
    total = ledger_facts(second).total_epsilon
    assert total > first.plan.epsilon and [c["run"] for c in ledger_facts(second).charges] == [
        first.id,
        second.id,
    ]
    budget.set_cap(first.ledger.ledger, load_records(tiny_images).fingerprints, total + 0.1)
    with pytest.raises(SfumatoError, match="the cap on these images"):
        verbs.adapt(half, anyway=True, yes_public=True, output=tmp_path / "third", **settings)
    assert not (tmp_path / "third").exists()
    refused, known, *_ = verbs.plan(tiny_images, **settings).remarks
    assert refused.startswith("adapt will refuse: the cap on these images is")
    assert "in 2 earlier runs" in known and "the cap is" in known


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


def resume(run, images, **more):
    return verbs.adapt(images, output=run.folder, resume=True, ledger=run.ledger_path, **more)


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


@pytest.mark.parametrize("what", ["weights", "counts", "another"])
def test_only_the_runs_own_model_leaves(finished, tmp_path, what):
    run = copied(finished, tmp_path / "run")
    if what == "weights":
        path = next(run.folder.glob("model/*.safetensors"))
        blob = path.read_bytes()
        path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    elif what == "counts":
        (run.folder / "model" / "class_counts.json").write_text("[9, 8, 7]")
    else:
        shutil.rmtree(run.folder / "model")
    before = kinds(run)
    for leave in (
        lambda: verbs.synthesize(run, 2, tmp_path / "out"),
        lambda: verbs.export(run, tmp_path / "out"),
    ):
        with pytest.raises(
            SfumatoError, match="not finished" if what == "another" else "not the model"
        ):
            leave()
    assert kinds(run) == before and not (tmp_path / "out").exists()


def test_the_certificate_names_the_code_that_trained(finished, tmp_path, monkeypatch):
    run = copied(finished, tmp_path / "run")
    monkeypatch.setattr("sfumato.runs.facts.code_version", lambda: "0+later")
    draft = json.loads((verbs.export(run, tmp_path / "out") / "synthesis.json").read_text())[
        "certificate"
    ]
    assert draft["code_version"] == "0+later" and draft["ledger"]["trained_by"] == ["0+test"]


def test_two_processes_in_one_folder(broken, tiny_images):
    import fcntl

    with open(broken.folder / "active.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(SfumatoError, match="another process"):
            resume(broken, tiny_images)
    assert kinds(broken) == KINDS


def test_a_base_that_cannot_be_adapted_costs_nothing(tiny_images, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "self_check", lambda *_, **__: ["unet.conv_in.weight"])
    with pytest.raises(SfumatoError, match="never gets a gradient"):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)

    def differs(*_, **__):
        raise RuntimeError("self-check: the engine's norms differ")

    monkeypatch.setattr(checks, "self_check", differs)
    with pytest.raises(SfumatoError, match="cannot be adapted"):
        verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_the_frozen_parts_are_left_to_the_bit(tiny_images, settings, tmp_path, tiny_base):
    """L17: what a run saves differs from the base in the trained tensors only."""
    options = settings | {"method": Attention(blocks="2"), "steps": 1}
    run = verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **options)
    for part in (
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
        "unet/diffusion_pytorch_model",
    ):
        before, after = (load_file(f / f"{part}.safetensors") for f in (tiny_base, run.model))
        for name, value in before.items():
            trained = part.startswith("unet") and name.startswith("mid_block.attentions.0.")
            assert torch.equal(after[name], value.half()) != trained, name


def test_plan_prices_without_training(tiny_images, settings):
    report = verbs.plan(tiny_images, **settings)
    assert (
        report.plan.n_units == 24 and report.plan.classes == CLASSES and report.estimate.seconds > 0
    )
    with pytest.raises(SfumatoError, match="delta"):
        verbs.plan(tiny_images, **settings | {"delta": 0.5})


def test_inspect_counts(tiny_images):
    assert verbs.inspect(tiny_images) is not None


@pytest.mark.parametrize("form", ["imagefolder", pytest.param("parquet", marks=pytest.mark.slow)])
def test_images_are_released_and_verified(finished, tmp_path, form):
    done = []
    folder = verbs.synthesize(
        finished,
        7,
        tmp_path / "out",
        sampling=Sampling(steps=2, batch=4),
        form=form,
        progress=done.append,
    )
    assert sum(done) == 7 and kinds(finished)[-2:] == ["RELEASE", "CERTIFY"]
    # with it, anybody could take the noise off again
    assert not (finished.folder / "run.key").exists()
    verbs.release(folder)
    assert verbs.verify(folder).ok
    facts = json.loads((folder / "privacy.json").read_text())
    assert (
        facts["epsilon"] == finished.plan.epsilon
        and facts["delta"] == 1e-2
        and facts["relation"] == "zero-out"
    )
    names = {p.name for p in folder.rglob("*")}
    assert not names & {
        "run.key",
        "ledger.sqlite",
        "cache",
        "checkpoints",
        "metrics.jsonl",
        "class_counts.json",
    }


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"method": "lora"}, marks=pytest.mark.slow),
        pytest.param({"method": "attention"}, marks=pytest.mark.slow),
        {"method": "lora", "embedder": True},
    ],
)
def test_models_are_exported_and_released(tiny_images, settings, finished, tmp_path, options):
    run = finished
    if options != {"method": "lora"}:
        changed = settings | options | {"steps": 1}
        run = verbs.adapt(
            tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **changed
        )
    folder = verbs.export(run, tmp_path / "model")
    verbs.release(folder)
    assert verbs.verify(folder).ok
    with pytest.raises(SfumatoError, match="exists"):
        verbs.export(run, tmp_path / "model")


def test_synthesis_refuses_before_it_writes_anything_down(finished, tmp_path):
    before = len(finished.ledger.rows)
    (tmp_path / "there").mkdir()
    for more, match in (
        ({"n": 0}, "at least one"),
        ({"output": tmp_path / "there"}, "exists"),
        ({"form": "zip"}, "--form"),
        ({"shard": (3, 3)}, "--shard"),
        ({"sampling": Sampling(scheduler="Magic")}, "--scheduler"),
        ({"class_shares": {"circle": 1.0}}, "--class-shares"),
        ({"class_shares": dict.fromkeys(CLASSES, -1.0)}, "class shares"),
    ):
        call = {"n": 4, "output": tmp_path / "out"} | more
        with pytest.raises(SfumatoError, match=match):
            verbs.synthesize(finished, **call)
    assert len(finished.ledger.rows) == before and not (tmp_path / "out").exists()


def test_declared_shares_are_met(finished, tmp_path):
    shares = {"circle": 0.0, "cross": 1.0, "square": 3.0}
    folder = verbs.synthesize(
        finished, 8, tmp_path / "out", sampling=Sampling(steps=1), class_shares=shares
    )
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [sum(r["label"] == c for r in rows) for c in CLASSES] == [0, 2, 6]


def test_class_shares_that_were_not_paid_for_are_uniform(finished, tmp_path):
    """Whatever the private shares are: here all images are of one class."""
    run = copied(finished, tmp_path / "run")
    with np.load(run.folder / "cache" / "units.npz") as held:
        units = dict(held)
    units["label"][:] = 2
    np.savez(run.folder / "cache" / "units.npz", **units)
    folder = verbs.synthesize(run, 6, tmp_path / "out", sampling=Sampling(steps=1))
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [sum(r["label"] == c for r in rows) for c in CLASSES] == [2, 2, 2]


@pytest.mark.parametrize("what", ["images", "model"])
def test_the_release_row_comes_before_the_first_picture(finished, tmp_path, monkeypatch, what):
    """The ledger knows of a release before a byte of it lies anywhere."""
    run, seen = copied(finished, tmp_path / "run"), []

    def die(*_, **__):
        seen.append(kinds(Run.open(run.folder, run.ledger_path)))
        raise Killed

    released = kinds(run)
    page = importlib.import_module("sfumato.verbs.synthesize")
    monkeypatch.setattr(page, "write_dataset", die)
    monkeypatch.setattr(shutil, "copy", die)
    with pytest.raises(Killed):
        if what == "images":
            verbs.synthesize(run, 2, tmp_path / "out", sampling=Sampling(steps=1))
        else:
            verbs.export(run, tmp_path / "out")
    assert seen == [[*released, "RELEASE"]]


def test_a_changed_base_is_noticed_at_synthesis(
    finished, tmp_path, tiny_base, settings, tiny_images
):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    run = verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        **settings | {"base": str(base), "steps": 1},
    )
    (base / "scheduler" / "scheduler_config.json").write_text(
        (base / "scheduler" / "scheduler_config.json").read_text() + "\n"
    )
    with pytest.raises(SfumatoError, match="hash differs"):
        verbs.synthesize(run, 2, tmp_path / "out")


def test_a_noisy_histogram_is_paid_for_and_used(tiny_images, settings, tmp_path):
    run = verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        **settings | {"steps": 1, "histogram": 2.0},
    )
    assert run.plan.to_json()["events"][0] == {
        "type": "gaussian",
        "noise_multiplier": 2.0,
        "count": 1,
    }
    noisy = np.array(json.loads((run.model / "class_counts.json").read_text()))
    assert (
        noisy.shape == (3,)
        and not np.array_equal(noisy, [8, 8, 8])
        and np.abs(noisy - 8).max() < 15
    )
    folder = verbs.synthesize(run, 6, tmp_path / "out", sampling=Sampling(steps=1))
    assert (
        json.loads((folder / "synthesis.json").read_text())["certificate"]["synthesis"][
            "class_shares"
        ]
        == "noisy-histogram"
    )


def test_a_histogram_over_people_counts_at_most_the_declared_images_of_each(settings):
    from types import SimpleNamespace

    records = SimpleNamespace(
        usable=np.array([1, 1, 1, 1, 1, 0, 1], bool),
        labels=np.array([0, 0, 1, 1, 2, 2, -1]),
        unit=np.array([0, 0, 0, 1, 1, 1, 2]),
    )
    plan = SimpleNamespace(max_per_unit=2, classes=CLASSES)
    assert execute.bounded_counts(records, plan).tolist() == [2, 1, 1]
    plan.max_per_unit = 1
    assert execute.bounded_counts(records, plan).tolist() == [1, 1, 0]


def test_methods_and_bases_have_one_line_each():
    assert set(verbs.methods()) == {
        "attention",
        "lora",
        "saliency",
        "loda",
        "full",
        "inversion",
        "embedding",
        "evolution",
    }
    assert all(
        "\n" not in line and line for line in (*verbs.methods().values(), *verbs.bases().values())
    )


def test_the_demo_takes_minutes_whatever_plans_propose_for_many_digits(tmp_path, monkeypatch):
    from sfumato.verbs import demo

    asked = {}
    monkeypatch.setattr(demo.verbs, "adapt", lambda records, **rest: asked.update(rest) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.run_demo(output=tmp_path / "demo")
    # gradients
    assert asked["steps"] * asked["expected_batch_size"] * asked["noise_draws"] < 70_000
