"""Evolution end to end on a tiny base: one run to a release, resume, refusals, and what is left."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato import verbs
from sfumato.auditing import on_run
from sfumato.bases import POPULATION_FILE, load_population
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import Evolution
from sfumato.methods.evolution.spaces import FOLDER
from sfumato.privacy.ledger.entries import Attempt
from sfumato.privacy.ledger.notes import CheckpointMade, Interval
from sfumato.privacy.mechanisms.histogram import GRID
from sfumato.records import load_records
from sfumato.runs.folder import Run

torch.set_num_threads(1)
evolving = importlib.import_module("sfumato.methods.evolution.fit")
OPTIONS = {"candidates": 12, "iterations": 3}


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")


def adapt(images, base, output, **changes):
    options = {"epsilon": 8.0, "delta": 1e-3, "method": Evolution(**OPTIONS), "base": str(base)}
    return verbs.adapt(images, anyway=True, yes_public=True, output=output, **options | changes)


@pytest.fixture(scope="module")
def run(tiny_base, tiny_images, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
        folder = tmp_path_factory.mktemp("evolved")
        ledger = folder / "ledger.sqlite"
        return adapt(tiny_images, tiny_base, folder / "run", ledger=ledger, retry_fraction=0.4)


def test_a_folder_of_pictures_becomes_a_verified_release(run, tmp_path):
    plan = run.plan
    assert (plan.steps, plan.retry_steps, plan.voting.candidates) == (3, 2, 12)
    assert [(type(e).__name__, e.count) for e in plan.events] == [("Gaussian", 5)]
    assert sorted(p.name for p in run.model.iterdir()) == [POPULATION_FILE]
    assert not (run.folder / FOLDER).exists()  # the private features are gone
    members, strength = load_population(run.model)
    assert strength == 0.4
    assert members.shape[:2] == (3, 4) and bool(torch.isfinite(members).all())

    verbs.synthesize(run, 15, tmp_path / "pictures", keep_key=True)
    verbs.release(tmp_path / "pictures")
    report = verbs.verify(tmp_path / "pictures")
    assert report.ok, report
    facts = json.loads((tmp_path / "pictures" / "privacy.json").read_text())
    (query,) = facts["mechanism"]["one_shot"]
    assert facts["mechanism"]["method"] == "evolution"
    assert query["count"] == 5 and query["noise_stddev"] >= plan.noise_multiplier
    pictures = sorted((tmp_path / "pictures" / "train").rglob("*.png"))
    assert len(pictures) == 15
    with pytest.raises(SfumatoError, match="trained no model"):
        verbs.export(run, tmp_path / "model")
    with pytest.raises(SfumatoError, match="drawn by the run"):
        verbs.synthesize(run, 3, tmp_path / "other", steps=4)
    with pytest.raises(SfumatoError, match="drawn by the run"):
        verbs.synthesize(run, None, tmp_path / "other", prompts=tmp_path / "prompts.csv")


def test_every_round_is_noted_and_audited(run):
    notes = run.ledger.entries(Interval)
    assert [list(n.interval) for n in notes] == [[0, 1], [1, 2], [2, 3]]
    assert [n.checkpoint for n in run.ledger.entries(CheckpointMade)] == [1, 2, 3]
    found = []
    body = on_run.audit_run(run, on_finding=found.append)
    assert body["passed"] and body["complete"], body
    assert {f.check for f in found} == {"M1", "H"}


def test_a_resume_ends_with_the_same_population(tiny_images, tiny_base, tmp_path, monkeypatch):
    """Stopped after its first round, and continued under the same key."""
    first = adapt(tiny_images, tiny_base, tmp_path / "run")
    copied = tmp_path / "again"
    shutil.copytree(first.folder, tmp_path / "whole")
    whole, _ = load_population(first.model)

    round_ = evolving._Evolution.round
    keys = []

    def stopped(self, rounds):
        keys.append((rounds.step, self.workspace.attempt))
        done = round_(self, rounds)
        if rounds.step == 0 and len(keys) == 1:
            raise Interrupted("stopped")
        return done

    monkeypatch.setattr(evolving._Evolution, "round", stopped)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, copied)
    assert (copied / FOLDER / "features.npy").exists()
    again = verbs.resume(tiny_images, copied)
    # the interrupted round is made again, under the same address, and no round twice else
    assert keys == [(0, 0), (0, 0), (1, 0), (2, 0)]
    assert load_population(again.model)[0].shape == whole.shape
    # one attempt, replayed
    assert again.ledger.attempts == 1


def test_a_new_attempt_is_paid_from_the_reserve(tiny_images, tiny_base, tmp_path, monkeypatch):
    round_ = evolving._Evolution.round

    def stopped(self, rounds):
        if rounds.step == 1 and self.workspace.attempt == 0:
            raise Interrupted("stopped")
        return round_(self, rounds)

    monkeypatch.setattr(evolving._Evolution, "round", stopped)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run", retry_fraction=0.3)
    run = verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)
    # the round that had begun is billed again, from the one that was paid in advance
    assert run.plan.retry_steps == 1 and run.plan.events[-1].count == 4
    first, second = run.ledger.entries(Attempt)
    assert (first.billed, second.billed, second.from_step) == (0, 1, 1)


def test_a_round_is_in_the_ledger_before_it_votes(tiny_images, tiny_base, tmp_path, monkeypatch):
    seen = []
    votes = evolving.noisy_votes

    def watched(*given):
        notes = Run.open(tmp_path / "run").ledger.entries(Interval)
        seen.append((given[5], [list(n.interval) for n in notes]))
        return votes(*given)

    monkeypatch.setattr(evolving, "noisy_votes", watched)
    adapt(tiny_images, tiny_base, tmp_path / "run")
    assert [step for step, _ in seen] == [0, 1, 2]
    assert all([step, step + 1] in noted for step, noted in seen)


def by_person(images, people: int):
    """The pictures as if each person owned every so many-th of them, of all classes."""
    records = load_records(images, yes_public=True)
    return replace(records, unit=np.arange(records.n) % people, unit_column="person")


def test_a_unit_of_many_images_weighs_as_one(tiny_images, tiny_base, tmp_path, monkeypatch):
    totals = []
    votes = evolving.noisy_votes

    def watched(voting, sigma, named, owned, *rest):
        totals.append((voting.total(named, owned), len(owned), sorted(map(len, owned))))
        return votes(voting, sigma, named, owned, *rest)

    monkeypatch.setattr(evolving, "noisy_votes", watched)
    run = adapt(by_person(tiny_images, 5), tiny_base, tmp_path / "run")
    assert run.plan.unit == "person" and run.plan.n_units == 5 and len(totals) == 3
    for total, units, sizes in totals:
        assert units == 5 and sizes == [4, 5, 5, 5, 5]
        assert 0 < float(np.linalg.norm(total)) <= units * GRID


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 3}, "no training steps"),
        ({"clip_norm": 0.5}, "votes have norm 1"),
        ({"method": Evolution(candidates=4, iterations=1)}, "at least two each"),
        ({"method": Evolution(candidates=6, iterations=1, nearest=2)}, "fewer candidates than"),
        ({"method": Evolution(features="nothing")}, "name latents or pixels"),
        ({"samples_every": 2}, "trains nothing"),
        ({"classes": ["circle", "cross", "square", "star"]}, "no image has the class star"),
        ({"time": "5m"}, "--time is for methods that train"),
        ({"shard": (0, 2)}, "--method inversion"),
    ],
)
def test_refused_before_the_charge(tiny_images, tiny_base, tmp_path, change, says):
    with pytest.raises(SfumatoError, match=says):
        adapt(tiny_images, tiny_base, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_fewer_units_than_classes(tiny_images, tiny_base, tmp_path):
    with pytest.raises(SfumatoError, match="2 units are fewer than the 3 classes"):
        adapt(
            by_person(tiny_images, 2),
            tiny_base,
            tmp_path / "run",
            allow_large_delta=True,
            delta=0.1,
        )
    assert not (tmp_path / "run").exists()


def test_plan_says_rounds_votes_and_time(tiny_images, tiny_base):
    report = verbs.plan(
        tiny_images,
        yes_public=True,
        epsilon=8.0,
        delta=1e-3,
        base=str(tiny_base),
        method=Evolution(**OPTIONS),
    )
    rows = dict(Evolution.mechanism_rows(report.plan))
    assert "3 rounds of all units" in rows["votes"] and report.estimate.seconds > 0
    work = dict(Evolution.work_rows(report.plan, report.estimate, None, "1 s"))
    assert "12 a round" in work["candidates"]
