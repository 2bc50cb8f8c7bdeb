"""A run is charged before it reads, whole, private, and what it cannot do costs nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.bases import latents
from sfumato.errors import SfumatoError
from sfumato.methods import Attention, checks
from sfumato.options import Sampling
from sfumato.planning import timing
from sfumato.records import RecordSet, load_records
from sfumato.runs import budget, execute
from sfumato.runs.facts import ledger_facts
from sfumato.runs.folder import Run

from .runs import CLASSES, KINDS, Killed, kinds


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


def test_the_frozen_parts_are_left_to_the_bit(tiny_images, settings, tmp_path, whole_tiny_base):
    """L17: what a run saves differs from the base in the trained tensors only."""
    options = settings | {"method": Attention(blocks="2"), "steps": 1}
    options |= {"base": str(whole_tiny_base)}
    run = verbs.adapt(tiny_images, anyway=True, yes_public=True, output=tmp_path / "run", **options)
    for part in (
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
        "unet/diffusion_pytorch_model",
    ):
        before, after = (load_file(f / f"{part}.safetensors") for f in (whole_tiny_base, run.model))
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
