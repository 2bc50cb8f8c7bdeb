"""Evolution end to end on a tiny base: one run to a release, resume, refusals, and what is left."""

from __future__ import annotations

import importlib
import json
import shutil
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from sfumato import verbs
from sfumato.auditing import on_run
from sfumato.bases import LORA_FILE, POPULATION_FILE, load_population
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import Evolution, Prompts
from sfumato.methods.evolution import cost, drawing, sharing
from sfumato.methods.evolution.spaces import FOLDER
from sfumato.privacy.ledger.entries import Attempt
from sfumato.privacy.ledger.notes import CheckpointMade, Interval
from sfumato.privacy.mechanisms.histogram import GRID
from sfumato.records import load_records
from sfumato.runs.folder import Run
from sfumato.synthesis.population import Population
from sfumato.verbs.facts import adapted_base, public_base

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
    votes = evolving.noisy_votes

    def stopped(*given):
        if given[5:] == (1, 0):
            raise Interrupted("stopped")
        return votes(*given)

    monkeypatch.setattr(evolving, "noisy_votes", stopped)
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
        ({"time": "1s", "method": Evolution(iterations=2)}, "candidates, the fewest"),
        ({"time": "5m"}, "--time decides --candidates"),
        ({"keep_inversions": True}, "--method inversion"),
    ],
)
def test_refused_before_the_charge(tiny_images, tiny_base, tmp_path, change, says):
    with pytest.raises(SfumatoError, match=says):
        adapt(tiny_images, tiny_base, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_shards_share_the_pictures_and_one_of_them_votes(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    votes, drawn = [], []
    real, pieces = evolving.noisy_votes, drawing.in_pieces
    monkeypatch.setattr(sharing, "PAUSE", 0.01)
    monkeypatch.setattr(evolving, "noisy_votes", lambda *a: votes.append(a[5]) or real(*a))
    monkeypatch.setattr(
        drawing,
        "in_pieces",
        lambda s, numbers, work: drawn.append(len(numbers)) or pieces(s, numbers, work),
    )
    failed = []

    def beside():
        try:
            adapt(tiny_images, tiny_base, tmp_path / "run", shard=(0, 2))
        except BaseException as error:
            failed.append(error)

    first = threading.Thread(target=beside)
    first.start()
    while first.is_alive() and not (tmp_path / "run" / FOLDER).exists():
        if (tmp_path / "run" / sharing.FOLDER).exists():
            break
        time.sleep(0.05)
    verbs.resume(tiny_images, tmp_path / "run", shard=(1, 2))
    first.join(60)
    assert not failed and votes == [0, 1, 2]
    assert drawn[:2] == [6, 6]  # half of the first population each
    assert not (tmp_path / "run" / "model").exists()
    run = verbs.resume(tiny_images, tmp_path / "run")
    assert votes == [0, 1, 2] and load_population(run.model)[0].shape[:2] == (3, 4)
    assert [list(n.interval) for n in run.ledger.entries(Interval)] == [[0, 1], [1, 2], [2, 3]]
    assert not (run.folder / sharing.FOLDER).exists()


def test_the_owner_may_finish_at_a_round(tiny_images, tiny_base, tmp_path, monkeypatch):
    votes = evolving.noisy_votes

    def stopped(*given):
        if given[5] == 2:
            raise Interrupted("stopped")
        return votes(*given)

    monkeypatch.setattr(evolving, "noisy_votes", stopped)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run")
    assert (tmp_path / "run" / FOLDER).exists()
    run = verbs.resume(tiny_images, tmp_path / "run", finish_here=True)
    assert not (run.folder / FOLDER).exists()  # features of private images
    (kept,) = (run.folder / "checkpoints").glob("step-000002.safetensors")
    held = safetensors.torch.load(kept.read_bytes())[evolving.LATENTS]
    assert torch.equal(load_population(run.model)[0].flatten(0, 1), held.float())
    with pytest.raises(SfumatoError):
        verbs.resume(tiny_images, tmp_path / "run")
    verbs.synthesize(run, 6, tmp_path / "pictures")
    verbs.release(tmp_path / "pictures")
    report = verbs.verify(tmp_path / "pictures", run.ledger_path)
    assert report.ok, report
    facts = json.loads((tmp_path / "pictures" / "privacy.json").read_text())
    assert (facts["stopped"]["step"], facts["stopped"]["of"]) == (2, 3)
    assert facts["events"][-1]["count"] == 3  # all rounds stay charged


def test_the_base_may_be_tuned_on_the_last_population(tiny_images, tiny_base, tmp_path):
    """Post-processing: no event more, and the certificate says so."""
    method = Evolution(**OPTIONS, fine_tune=3)
    run = adapt(tiny_images, tiny_base, tmp_path / "run", method=method)
    assert [(type(e).__name__, e.count) for e in run.plan.events] == [("Gaussian", 3)]
    assert sorted(p.name for p in run.model.iterdir()) == [POPULATION_FILE, LORA_FILE]
    tuned = safetensors.torch.load_file(run.model / LORA_FILE)
    assert any(bool(t.any()) for name, t in tuned.items() if "lora_B" in name or ".up." in name)
    verbs.synthesize(run, 12, tmp_path / "pictures", keep_key=True)
    verbs.export(run, tmp_path / "lora")
    for folder in ("pictures", "lora"):
        verbs.release(tmp_path / folder)
        report = verbs.verify(tmp_path / folder)
        assert report.ok, report
        facts = json.loads((tmp_path / folder / "privacy.json").read_text())
        assert "3 steps on the last population" in facts["post_processing"]["statement"]
        assert "Afterwards" in (tmp_path / folder / "PRIVACY.md").read_text()
    assert (tmp_path / "lora" / LORA_FILE).exists()


def test_pictures_beyond_the_population_are_of_the_public_base(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    """Not of the class tokens that were trained with the LoRA."""
    method = Evolution(**OPTIONS, fine_tune=3)
    words = {"init": {"circle": "square"}}
    run = adapt(tiny_images, tiny_base, tmp_path / "run", method=method, **words)
    (token,) = Prompts.of(run.options["prompts"]).tokens
    seen, call = [], Population.__call__

    def vector(base):
        return base.word_vectors[base.token_ids([token])].clone()

    def watched(self, base, *rest):
        seen.append(vector(base))
        return call(self, base, *rest)

    monkeypatch.setattr(Population, "__call__", watched)
    verbs.synthesize(run, 15, tmp_path / "pictures", controls=False)
    assert not torch.equal(vector(adapted_base(run)), vector(public_base(run)))
    assert torch.equal(seen[0], vector(public_base(run)))


def test_a_time_decides_the_candidates(tiny_images, tiny_base):
    asked = {"yes_public": True, "epsilon": 8.0, "delta": 1e-3, "base": str(tiny_base)}
    usual = verbs.plan(tiny_images, method=Evolution(iterations=2), **asked)
    report = verbs.plan(tiny_images, method=Evolution(iterations=2), time="2h", **asked)
    assert report.plan.voting == usual.plan.voting  # never more than without a time
    assert report.fixes == f"--iterations 2 --candidates {usual.plan.voting.candidates}"
    pace = cost.Pace(candidate=1.0, vote=1e-3, image=0.0, wide=4)
    timed = SimpleNamespace(pace=pace, fixed=10.0)
    plan = SimpleNamespace(n_units=100, steps=2, voting=SimpleNamespace(classes=3, candidates=300))
    prepared = SimpleNamespace(plan=plan)
    assert cost.candidates_in(prepared, timed, 10.0 + 60 * 1.2) == 60  # 1 + 0.2 seconds each
    with pytest.raises(SfumatoError, match="12 candidates, the fewest"):
        cost.candidates_in(prepared, timed, 15.0)


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


def test_tuning_passes_as_many_pictures_as_memory_holds(tiny_base, monkeypatch):
    """All rounds are paid by then: a pass that does not fit would lose them."""
    from sfumato.bases import load_base
    from sfumato.methods import Given, Lora, Prompts
    from sfumato.methods.evolution import tuning

    adaptation = Lora().apply(load_base(tiny_base), Given(Prompts(("a", "b"))))
    for room, rows in ((1000, tuning.BATCH), (5, 5), (0.5, 1)):
        monkeypatch.setattr(tuning, "peak_bytes", lambda work, where: work() or 10)
        monkeypatch.setattr(tuning, "budget", lambda *_, room=room: int(room * 10))
        assert tuning.rows_that_fit(adaptation, 2) == rows
