"""`adapt --match`: one plan and one charge for votes and training, whatever base is chosen; the
answer is asked for once, after the charge, and a resume follows it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato import verbs
from sfumato.auditing import on_run
from sfumato.bases import base_info
from sfumato.bases.tiny import make_tiny_base
from sfumato.errors import Interrupted, LedgerFault, SfumatoError
from sfumato.methods import Evolution, Lora
from sfumato.options import Choosing, Privacy
from sfumato.planning import choosing
from sfumato.planning.task import Task, candidates_of
from sfumato.privacy import accounting
from sfumato.privacy.events import Gaussian
from sfumato.privacy.ledger.entries import Attempt, Charged, Planned
from sfumato.privacy.ledger.notes import Matched
from sfumato.privacy.mechanisms.base_vote import LIKELIEST, NEAREST, STEP
from sfumato.privacy.mechanisms.histogram import GRID
from sfumato.privacy.random import noise
from sfumato.runs import budget, choice
from sfumato.runs.folder import Run
from sfumato.runs.matching import FORMER, TODAY
from sfumato.verbs import chosen

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
LIKE = {"epsilon": 8.0, "delta": 1e-3, "steps": 3, "expected_batch_size": 8, "noise_draws": 1}
LIKE |= {"micro_batch": 8, "precision": "float32"}
LIKE |= {"match": True, "match_epsilon": 2.0, "anyway": True, "yes_public": True, "rank": 2}


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setattr(choosing, "PICTURES", 12)
    monkeypatch.setattr(chosen, "PICTURES", 12)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return [str(make_tiny_base(folder / f"tiny-{seed}", seed=seed, sparse=True)) for seed in (0, 1)]


@pytest.fixture
def second_wins(monkeypatch):
    """All units vote for the second base: of the first, images have nothing."""

    def features(name, prompts, n, sampling, on_stage):
        flat = 1.0 if name.endswith("tiny-1") else -9.0
        return np.full((n, 16 * 16), flat, np.float32)

    monkeypatch.setattr(chosen, "features_of", features)


def adapt(images, candidates, output, **changes):
    asked = {"method": "lora", "bases": candidates, "output": output} | LIKE | changes
    return verbs.adapt(images, **{k: v for k, v in asked.items() if v is not None})


def test_one_charge_pays_for_votes_and_training_on_the_base_they_choose(
    tiny_images, bases, second_wins, tmp_path, monkeypatch, ledger_of_the_test
):
    asked = []
    monkeypatch.setattr(
        choice,
        "bases_asked",
        lambda records, *rest: (
            asked.append(len(budget.open_ledger(ledger_of_the_test).chain.entries(Charged)))
            or np.array([1.0, 23.0])
        ),
    )
    run = adapt(tiny_images, bases, tmp_path / "run")
    assert asked == [1]  # charged before the question, and asked once
    plan = run.plan
    assert plan.base == bases[1] and plan.base_digest == base_info(bases[1]).digest
    vote, *_, training = plan.events
    assert vote == Gaussian(plan.base_vote.noise_multiplier)
    assert training.steps == 3 and plan.epsilon <= 8.0
    assert plan.noise_multiplier > plan.base_vote.noise_before  # the votes are paid for
    assert accounting.epsilon_of((vote,), 1e-3, grid=1e-2) == pytest.approx(2.0, abs=0.01)
    (charged,) = run.ledger.entries(Charged)
    assert len(charged.events) == 2 and len(run.ledger.entries(Planned)) == 1
    (noted,) = run.ledger.entries(Matched)
    assert noted.chosen == 1 and list(noted.shares) == [1 / 24, 23 / 24]
    assert (noted.features, noted.rule) == (TODAY.features, LIKELIEST)
    # the answer is an output: what is planned after it is composed adaptively
    assert run.group().released
    assert Run.open(run.folder).plan == plan

    verbs.synthesize(run, 6, tmp_path / "pictures", keep_key=True)
    verbs.release(tmp_path / "pictures")
    report = verbs.verify(tmp_path / "pictures", ledger_of_the_test)
    assert report.ok, report
    facts = json.loads((tmp_path / "pictures" / "privacy.json").read_text())
    said = facts["base_vote"]
    assert said["chosen"] == "tiny-1" == facts["conditions"]["base"]
    assert [c["share"] for c in said["candidates"]] == [1 / 24, 23 / 24]
    (query,) = facts["mechanism"]["one_shot"]
    assert query["name"] == "base vote" and query["noise"] == plan.base_vote.noise_multiplier
    assert (query["features"], query["rule"]) == (TODAY.features, LIKELIEST)
    for page in ("report.html", "PRIVACY.md"):
        assert "tiny-1" in (tmp_path / "pictures" / page).read_text()
    assert str(Path(bases[1]).parent) not in (tmp_path / "pictures" / "privacy.json").read_text()

    found = []
    body = on_run.audit_run(run, names=("M1", "H"), on_finding=found.append)
    assert body["passed"], body
    assert any("base" in str(finding) for finding in found if finding.check == "H")


def test_each_candidate_is_remarked_on_once(tiny_images, bases, second_wins, tmp_path, monkeypatch):
    remarked, real, lines = [], chosen.remarks_on, []

    def remarks_on(prepared, records):
        remarked.append(prepared.plan.base)
        return (*real(prepared, records), f"seen on {Path(prepared.plan.base).name}")

    def stop(*given):
        raise Interrupted("before the charge")

    monkeypatch.setattr(chosen, "remarks_on", remarks_on)
    monkeypatch.setattr(chosen, "require_one_price", stop)
    with pytest.raises(Interrupted):
        adapt(tiny_images, bases, tmp_path / "run", on_stage=lines.append)
    notes = [line for line in map(str, lines) if line.startswith("note: ")]
    assert remarked == bases and len(notes) == len(set(notes))
    assert {f"note: seen on tiny-{i}" for i in (0, 1)} < set(notes)


@pytest.mark.parametrize(
    "forge",
    [
        lambda said, facts: said["candidates"][0].update(share=2.0),
        lambda said, facts: said.update(chosen="tiny-0"),
        lambda said, facts: said["candidates"].pop(0),
        lambda said, facts: facts["mechanism"]["one_shot"].clear(),
        lambda said, facts: facts["conditions"].update(base_digest="0" * 64),
    ],
)
def test_the_stand_alone_verifier_sees_a_forged_choice(forge):
    from sfumato.releases.verify_privacy import check_base_vote

    candidates = [
        {"base": f"tiny-{i}", "digest": str(i) * 64, "share": share}
        for i, share in enumerate((0.1, 0.9))
    ]
    said = {"candidates": candidates, "chosen": "tiny-1"}
    query = {"name": "base vote", "bases": 2, "count": 1}
    facts = {
        "mechanism": {"one_shot": [query]},
        "conditions": {"base": "tiny-1", "base_digest": "1" * 64},
        "base_vote": said,
    }
    assert check_base_vote(said, facts)[1]
    forge(said, facts)
    assert not check_base_vote(said, facts)[1]


def test_the_choice_is_replayed_and_never_voted_twice(
    tiny_images, bases, second_wins, tmp_path, monkeypatch
):
    """Died before the note: the same noise again. Died after it: the note is read."""
    votes, real = [], choice.bases_asked

    def watched(*given):
        votes.append(real(*given))
        return votes[-1]

    monkeypatch.setattr(choice, "bases_asked", watched)
    record = Run.record

    def dies(self, entry):
        if isinstance(entry, Matched) and len(votes) == 1:
            raise Interrupted("died before the note")
        record(self, entry)

    monkeypatch.setattr(Run, "record", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, bases, tmp_path / "run", retry_fraction=0.5)
    with pytest.raises(SfumatoError, match="before its base was chosen"):
        verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)
    with pytest.raises(SfumatoError, match="has not chosen its base"):
        verbs.resume(tiny_images, tmp_path / "run", finish_here=True)
    train = chosen.rebuild

    def stops(*given, **more):
        raise Interrupted("died after the note")

    monkeypatch.setattr(chosen, "rebuild", stops)
    with pytest.raises(Interrupted):
        verbs.resume(tiny_images, tmp_path / "run")
    assert len(votes) == 2 and np.array_equal(*votes)
    monkeypatch.setattr(chosen, "rebuild", train)
    run = verbs.resume(tiny_images, tmp_path / "run")
    assert len(votes) == 2 and run.ledger.attempts == 1
    (noted,) = run.ledger.entries(Matched)
    assert run.plan.base == bases[noted.chosen]
    # nor can anything else write a second answer
    with pytest.raises((LedgerFault, SfumatoError)):
        run.record(replace(noted, chosen=1 - noted.chosen))


def test_a_plan_of_before_is_asked_by_the_nearest_picture(
    tiny_images, bases, tmp_path, monkeypatch
):
    """A resume never puts today's question under noise that was charged for another one."""

    def features(name, *rest):
        flat = 1.0 if name.endswith("tiny-1") else -9.0
        return np.full((12, 3 * 16 * 16), flat, np.float32)

    def dies(*given, **more):
        raise Interrupted("before the votes, or before training")

    monkeypatch.setattr(chosen, "features_of", features)
    for place in (choosing, chosen):
        monkeypatch.setattr(place, "TODAY", FORMER)
    real, asked = choice.bases_asked, []
    monkeypatch.setattr(choice, "bases_asked", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, bases, tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert kept["base_vote"]["features"] == "pixels, 16 x 16" and "rule" not in kept["base_vote"]
    for place in (choosing, chosen):
        monkeypatch.setattr(place, "TODAY", TODAY)

    def watched(records, side, table, sigma, key, step, by=TODAY):
        asked.append(by)
        return real(records, side, table, sigma, key, step, FORMER)

    monkeypatch.setattr(choice, "bases_asked", watched)
    monkeypatch.setattr(chosen, "rebuild", dies)
    with pytest.raises(Interrupted):
        verbs.resume(tiny_images, tmp_path / "run")
    assert asked == [FORMER]
    (noted,) = Run.open(tmp_path / "run").ledger.entries(Matched)
    assert noted.chosen == 1 and (noted.features, noted.rule) == ("pixels, 16 x 16", NEAREST)


def test_images_are_not_read_at_the_size_of_another_base(tiny_images, bases, tmp_path, monkeypatch):
    """A folder that was exchanged after the charge would make another question of it."""

    def dies(*given, **more):
        raise Interrupted("before the votes")

    with monkeypatch.context() as patch:
        patch.setattr(choice, "bases_asked", dies)
        with pytest.raises(Interrupted):
            adapt(tiny_images, bases, tmp_path / "run")
        exchanged = SimpleNamespace(resolution=64, digest="0")
        patch.setattr(choice, "base_info", lambda name: exchanged)
        with pytest.raises(SfumatoError, match="not the base that was planned with"):
            verbs.resume(tiny_images, tmp_path / "run")
    assert not Run.open(tmp_path / "run").ledger.entries(Matched)


@pytest.mark.slow
def test_a_retry_after_the_choice_keeps_the_base(tiny_images, bases, second_wins, tmp_path):
    run = adapt(tiny_images, bases, tmp_path / "run", retry_fraction=1.0)
    shutil.rmtree(run.folder / "model")
    shutil.rmtree(run.folder / "checkpoints")
    again = verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)
    assert again.plan.base == run.plan.base and len(again.ledger.entries(Attempt)) == 2
    assert len(again.ledger.entries(Matched)) == 1


@pytest.mark.slow
def test_other_tables_or_plans_are_refused(tiny_images, bases, second_wins, tmp_path, monkeypatch):
    def dies(*given):
        raise Interrupted("before the votes")

    real = choice.bases_asked
    monkeypatch.setattr(choice, "bases_asked", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, bases, tmp_path / "run")
    monkeypatch.setattr(choice, "bases_asked", real)
    table = tmp_path / "run" / choice.TABLE
    whole = table.read_bytes()
    table.write_bytes(whole[:-4] + b"\1\2\3\4")
    with pytest.raises(SfumatoError, match="bases.npy of the run was altered"):
        verbs.resume(tiny_images, tmp_path / "run")
    table.write_bytes(whole)
    for place in (tmp_path / "run").glob("candidate-?.json"):
        body = json.loads(place.read_text())
        body["plan"]["learning_rate"] *= 2
        place.write_text(json.dumps(body))
    with pytest.raises(SfumatoError, match="does not hold the plan of the base"):
        verbs.resume(tiny_images, tmp_path / "run")


@pytest.mark.slow
def test_the_votes_have_the_noise_that_is_billed(tiny_images, bases, tmp_path, monkeypatch):
    """From the run's own key, at an address of their own, on the units' bounded votes."""
    added = []
    real = noise.integers

    def watched(variance, size, key, purpose, step, attempt, name):
        if step == STEP:
            added.append((float(variance), size, purpose, attempt, name))
        return real(variance, size, key, purpose, step, attempt, name)

    monkeypatch.setattr(noise, "integers", watched)
    some = np.random.default_rng(0).standard_normal((12, 16 * 16)).astype(np.float32)
    monkeypatch.setattr(chosen, "features_of", lambda *given: some)
    run = adapt(tiny_images, bases, tmp_path / "run")
    (found,) = added
    least = (run.plan.base_vote.noise_multiplier * GRID) ** 2
    assert least <= found[0] <= least * 1.001 + 10 and found[1:] == (2, "aggregate", 0, "votes")


def test_the_plan_shows_the_votes_and_charges_nothing(tiny_images, bases, ledger_of_the_test):
    asked = {name: value for name, value in LIKE.items() if name != "yes_public"}
    report = verbs.plan(tiny_images, method="lora", bases=bases, **asked)
    from sfumato.cli.plan import sections

    shown = dict(dict(sections(report))["Mechanism"])
    assert "among tiny-0, tiny-1" in shown["vote for the base"]
    assert "with it" in shown["sigma without it"]
    assert dict(report.public)["base"].startswith("one of tiny-0, tiny-1")
    assert not ledger_of_the_test.exists()


@pytest.mark.slow
def test_votes_choose_before_an_evolution_too(
    tiny_images, bases, second_wins, tmp_path, monkeypatch
):
    """And no two noises of the run have one address."""
    places, real = [], noise.integers

    def watched(variance, size, key, *place):
        places.append((key.id, *place))
        return real(variance, size, key, *place)

    monkeypatch.setattr(noise, "integers", watched)
    method = Evolution(candidates=12, iterations=2)
    changes = {"steps": None, "expected_batch_size": None, "noise_draws": None, "rank": None}
    run = adapt(tiny_images, bases, tmp_path / "run", method=method, **changes)
    assert [type(e).__name__ for e in run.plan.events] == ["Gaussian", "Gaussian"]
    own = [place for place in places if place[0] == places[-1][0]]  # of the attempt's key
    assert len(own) == 3 == len(set(own))
    verbs.synthesize(run, 12, tmp_path / "pictures")
    verbs.release(tmp_path / "pictures")
    assert verbs.verify(tmp_path / "pictures").ok


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base": "glyphs"}, "leave --base out"),
        ({"bases": ["glyphs"]}, "at least two public bases"),
        ({"bases": ["glyphs", "glyphs"]}, "each once"),
        ({"bases": ["glyphs", "things"]}, "name bases of one size"),
        ({"bases": ["glyphs", "nowhere"]}, "no base at"),
        ({"bases": ["glyphs", "none"]}, "a base of random numbers"),
        ({"match": False}, "goes with --match"),
        ({"match_epsilon": 8.0}, "leaves nothing of --epsilon"),
        ({"time": "5min", "steps": None}, "--time solves"),
        ({"shard_base": True}, "--shard-base"),
        ({"placeholder": "<x>"}, "requires --method inversion"),
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(
    changes, says, tiny_images, bases, tmp_path, ledger_of_the_test
):
    with pytest.raises(SfumatoError, match=says) as told:
        adapt(tiny_images, bases, tmp_path / "run", **changes)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()
    if ledger_of_the_test.exists():
        assert not budget.open_ledger(ledger_of_the_test).chain.entries(Charged)


@pytest.mark.parametrize("where", ["beside", "copied"])
def test_one_base_under_two_names_is_refused(where, bases, tmp_path, monkeypatch):
    """Its votes would be split, and no certificate could say which of the two they chose."""
    again = shutil.copytree(bases[0], tmp_path / "again") if where == "copied" else bases[0]
    monkeypatch.chdir(Path(bases[0]).parent)
    asked = Choosing(match=True, bases=("tiny-0", bases[1], str(again)))
    with pytest.raises(SfumatoError, match="tiny-0 and .* are the same base: name it once"):
        choosing.tasks_of(Task("tiny-0", Lora(), Privacy(epsilon=8.0), asked))


def test_candidates_that_would_ask_for_something_else_are_refused():
    class Like:
        def __init__(self, events):
            self.events, self.epsilon, self.base = events, 1.0, "b"

    choosing.require_one_price([Like((1,)), Like((1,))])
    with pytest.raises(SfumatoError, match="no one price holds"):
        choosing.require_one_price([Like((1,)), Like((2,))])


def test_the_default_candidates_are_the_bundled_ones_of_one_size():
    assert candidates_of(Choosing(match=True)) == ("glyphs", "icons", "letters")
    assert Choosing(match=True).share(4.0) == 0.1 and Choosing(match=True).share(0.5) == 0.05


@pytest.mark.slow
def test_the_pasts_of_all_candidates_are_charged(
    tiny_images, bases, second_wins, tmp_path, monkeypatch
):
    """The votes look at the pictures of all of them, whichever is chosen."""
    real, past = chosen.prepare_as_asked, {"run": "ab" * 8, "owner": "ow", "through": "base"}
    past |= {"epsilon": 1.0, "delta": 1e-3, "unit": "record", "relation": "zero-out"}
    past |= {"charges": []}

    def prepared(records, task, *rest):
        made = real(records, task, *rest)
        return replace(made, ancestors=(past,) if task.base == bases[1] else ())

    monkeypatch.setattr(chosen, "prepare_as_asked", prepared)
    monkeypatch.setattr(choice, "bases_asked", lambda *given: np.array([5.0, 1.0]))
    run = adapt(tiny_images, bases, tmp_path / "run")
    (charged,) = run.ledger.entries(Charged)
    assert run.plan.base == bases[0]
    assert [ancestor["run"] for ancestor in charged.lineage or ()] == [past["run"]]
