"""What leaves a run: pictures and models, after their row, and the run's own alone."""

from __future__ import annotations

import importlib
import json
import shutil

import numpy as np
import pytest

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.options import Sampling
from sfumato.runs.folder import Run

from .runs import CLASSES, Killed, copied, kinds

TRUSTED_GRADIENTS = True


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
