"""`run/progress.html` shows step, epsilon and samples of a run, and nothing private of a step."""

from __future__ import annotations

import json

import pytest

import sfumato
from sfumato.errors import Interrupted
from sfumato.runs.progress_page import FACTS, FILE, shown
from sfumato.training import Progress


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_base, tiny_images):
    return sfumato.adapt(
        tiny_images,
        output=tmp_path_factory.mktemp("made") / "run",
        epsilon=8,
        delta=1e-3,
        base=tiny_base,
        steps=4,
        expected_batch_size=8,
        samples_every=2,
        yes_public=True,
        anyway=True,
    )


def test_a_run_leaves_its_page(run):
    text = (run.folder / FILE).read_text()
    assert "The run is finished" in text and "4 of 4" in text and "refresh" not in text
    assert "samples/step-000004.png" in text and "samples/step-000002.png" in text
    assert "no curve of the loss" in text and "PRIVATE" in text and "<script" not in text
    facts = json.loads((run.folder / FACTS).read_text())
    assert facts["step"] == facts["steps"] == 4 and facts["ended"]
    assert facts["epsilon"] == pytest.approx(run.plan.epsilon, rel=1e-2)
    assert set(facts) == {"step", "steps", "epsilon", "of", "rate", "left", "stage", "ended"}


def test_the_public_row_lies_beside_the_samples(run):
    table = json.loads((run.folder / "samples" / "public" / "labels.json").read_text())
    assert set(table.values()) == set(run.plan.classes)
    assert all((run.folder / "samples" / "public" / f"{name}.png").exists() for name in table)


def test_it_loads_itself_again_while_the_run_goes_on_and_says_how_it_ended(run):
    told = []
    with pytest.raises(Interrupted):
        with shown(run, lambda now, plan: told.append(now.step), told.append) as (step, stage):
            stage("encoding the images")
            text = (run.folder / FILE).read_text()
            assert "encoding the images" in text and "refresh" in text
            step(Progress(4, 4, 0.1, 10.0, 0.0), run.plan)
            raise Interrupted("stopped")
    assert told == ["encoding the images", 4]
    text = (run.folder / FILE).read_text()
    assert "It can go on" in text and "refresh" not in text


def test_a_disk_that_takes_no_page_ends_no_run(run, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "no space left")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with shown(run, lambda now, plan: None, lambda line: None) as (step, stage):
        stage("training")
        step(Progress(4, 4, 0.1, 10.0, 0.0), run.plan)
