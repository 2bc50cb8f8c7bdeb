"""`select`: a choice among runs that is paid for, before a held-out picture is judged, and stated
in the chosen run's certificate.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import BudgetError, SfumatoError
from sfumato.evaluation import train_classifier
from sfumato.privacy.mechanisms.selection import Selection
from sfumato.records import load_records
from sfumato.releases import DRAFT
from sfumato.releases.consistency import check_facts
from sfumato.releases.verify_privacy import check_privacy
from sfumato.runs import budget
from sfumato.runs.looks import looks_since
from sfumato.verbs import select as model_selection
from sfumato.verbs.select import right_answers, select
from tests.two_runs import make_two_runs

TRUSTED_GRADIENTS = True

torch.set_num_threads(1)
QUICK = {"classifier": "logistic", "steps": 3}


@pytest.fixture(scope="module")
def place(tiny_base, tiny_images, tmp_path_factory):
    """Two runs and their drafts; one draft's pictures are replaced by ones from which the classes
    can be told.
    """
    place = tmp_path_factory.mktemp("selection")
    rng = np.random.default_rng(3)
    for number, name in enumerate(("circle", "cross", "square")):
        (place / "held-out" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 40, (16, 16, 3)) + 90 * number
            Image.fromarray(pixels.astype(np.uint8)).save(place / "held-out" / name / f"{i}.png")
    make_two_runs(place, tiny_base, tiny_images, 30)
    yield place


@pytest.fixture
def site(place, tmp_path):
    shutil.copytree(place, tmp_path / "site")
    return tmp_path / "site"


def book(site):
    return budget.open_ledger(site / "ledger.sqlite")


def choose(site, *names, **said):
    said = {
        "data": site / "held-out",
        "epsilon": 2.0,
        "delta": 1e-3,
        "ledger": site / "ledger.sqlite",
        **QUICK,
    } | said
    return select([site / name for name in names or ("draft-a", "draft-b")], **said)


def easy(site, name="draft-b"):
    """Pictures of a draft from which the held-out classes can be learned."""
    rng = np.random.default_rng(8)
    for number, label in enumerate(("circle", "cross", "square")):
        for path in sorted((site / name / "train" / label).iterdir()):
            Image.fromarray((rng.integers(0, 40, (16, 16, 3)) + 90 * number).astype(np.uint8)).save(
                path
            )


def test_the_better_run_is_chosen_and_its_certificate_says_so(site):
    easy(site)
    found = choose(site, epsilon=400.0, steps=60)
    assert (
        found.chosen == 1
        and found.accuracies[1] > 0.7
        and found.accuracies[1] > found.accuracies[0] + 0.1
    )
    assert found.composes == (False, False) and found.n_units == 18 and found.noise_error < 0.02
    charge, (row,) = book(site).chain.of("CHARGE", found.id)[0].body, book(site).chain.of("SELECT")
    assert charge["events"] == [
        {"type": "gaussian", "noise_multiplier": found.noise_multiplier, "count": 1}
    ]
    assert charge["epsilon"] == found.epsilon <= 400 and row.body["chosen"] == found.runs[1]
    # A draft of before the selection says it, too, once it is released.
    (said,) = looks_since(site / "draft-a", site / "ledger.sqlite")["selections"]
    assert (
        said["statement"].startswith("Compared with others (2 runs) and not chosen")
        and not said["chosen"]
    )
    out = verbs.export(site / "b", site / "model", ledger=site / "ledger.sqlite")
    verbs.release(out, ledger=site / "ledger.sqlite")  # it verifies, or it would not be there
    facts = json.loads((out / "privacy.json").read_text())
    (entry,) = facts["selections"]
    assert facts["looks"]["exact"] == 0  # paid for, so no look
    assert entry["statement"].startswith("Chosen among 2 runs") and entry["chosen"]
    assert (
        "covered by one of the two claims alone" in entry["statement"]
        and len(facts["ledger"]["charges"]) == 2
    )
    assert all(
        entry["statement"] in (out / page).read_text()
        for page in ("README.md", "PRIVACY.md", "report.html")
    )


def forged(facts: dict, **changes) -> set[str]:
    """Failed checks up to the selection's own; what comes after it takes long and is not
    about it.
    """
    facts, failed = json.loads(json.dumps(facts)), set()
    facts["selections"][0].update(changes)
    for part in (check_facts, check_privacy):
        for name, passed, _ in part(facts):
            failed |= set() if passed else {name}
            if name == "selection":
                break
        else:
            raise AssertionError("the selection was not checked")
    return failed


def test_held_out_images_of_the_training_group_compose_and_are_priced_again(site, tiny_images):
    found = choose(site, data=tiny_images)
    assert found.composes == (True, True) and found.total_epsilon > 8
    with pytest.raises(SfumatoError, match="synthesize or export again"):
        # its total lacks the selection
        verbs.release(site / "draft-a", ledger=site / "ledger.sqlite")
    verbs.export(site / "a", site / "model", ledger=site / "ledger.sqlite")
    facts = json.loads((site / "model" / DRAFT).read_text())["certificate"]
    assert found.id in {charge["run"] for charge in facts["ledger"]["charges"]} and not forged(
        facts
    )
    assert (
        facts["ledger"]["total_epsilon"] == found.total_epsilon
        and "part of the total" in facts["selections"][0]["statement"]
    )
    for changes in (
        {"epsilon": 0.5},
        {"delta": 0.2},
        {"noise_stddev": 10},
        {"sensitivity": 1},
        {"runs": 9},
        {"grid": 2},
        {"id": "0" * 16},
        {"statement": "Chosen."},
        {"events": [{"type": "gaussian", "noise_multiplier": 50.0, "count": 1}]},
        {"standard_error": 0.0},
        {"held_out_units": 10**6},
    ):
        assert "selection" in forged(facts, **changes), changes


def test_nothing_is_judged_before_the_charge_is_durable(site, monkeypatch):
    read, before = [], len(book(site).rows)
    real = model_selection.right_answers

    def kinds():  # the runs were made under another state folder, which a RESET row tells
        return [row.kind for row in book(site).rows[before:] if row.kind != "RESET"]

    def judged(judges, sides, records):
        assert kinds() == ["PLAN", "OPEN", "CHARGE"]
        read.append(records.n)
        return real(judges, sides, records)

    monkeypatch.setattr(model_selection, "right_answers", judged)
    choose(site)
    assert read == [18] and kinds() == ["PLAN", "OPEN", "CHARGE", "SELECT"]
    held_out = load_records(site / "held-out")
    budget.set_cap(book(site), held_out.fingerprints, 3.0)
    with pytest.raises(BudgetError, match="cap"):
        choose(site)
    assert read == [18]
    monkeypatch.setattr(model_selection, "right_answers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        choose(site, epsilon=0.1)
    # spent all the same
    assert len(book(site).chain.of("CHARGE")) == 4 and len(book(site).chain.of("SELECT")) == 1


def test_leaving_a_unit_out_changes_no_other_answer(site):
    """Slots pass by their place alone: one that is zeroed keeps it, so that the sums differ by its
    own row and nothing else.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16, 3), np.uint8)
    judges = [
        train_classifier("cnn", images, np.arange(60) % 3, 3, seed=s, steps=2) for s in (0, 1)
    ]
    records = load_records(site / "held-out")
    records = replace(records, unit=np.arange(18) // 3)  # six units of three images
    shapes: list[tuple] = []

    class Watched:
        def __init__(self, judge):
            self.judge = judge

        def predict(self, images):
            shapes.append(images.shape)
            return self.judge.predict(images)

    judges = [Watched(judge) for judge in judges]
    right, there = right_answers(judges, [16, 32], records)
    assert (
        there.tolist() == [3] * 6
        and right.shape == (6, 2)
        and shapes == [(18, 16, 16, 3), (18, 32, 32, 3)]
    )
    for out in range(6):
        zeroed = replace(records, usable=records.usable & (records.unit != out))
        other, left = right_answers(judges, [16, 32], zeroed)
        kept = np.arange(6) != out
        assert np.array_equal(other[kept], right[kept]) and not other[out].any() and left[out] == 0
    # nothing is compacted, whoever is left out
    assert set(shapes) == {(18, 16, 16, 3), (18, 32, 32, 3)}


def test_what_leaves_is_the_sum_with_its_noise(monkeypatch):
    """From another key each time: the answers to the same pictures differ by what is billed."""
    monkeypatch.setattr(
        model_selection, "right_answers", lambda *_: (np.full((100, 30), 3), np.full(100, 4))
    )
    mechanism, drawn = Selection(30, 100, 2.5), []
    for _ in range(100):
        # three of four are right: half of HALF each
        drawn.append(model_selection._ask(mechanism, [], [], None) - 100 * 512)
    drawn = np.array(drawn)
    assert (
        drawn.std() == pytest.approx(2.5 * mechanism.sensitivity, rel=0.1)
        and abs(drawn.mean()) < 0.1 * drawn.std()
    )
    assert len({tuple(row) for row in drawn.tolist()}) == 100


def test_runs_are_drawn_from_and_the_command_line_answers(site, capsys):
    words = [
        str(site / "a"),
        str(site / "draft-b"),
        "--data",
        str(site / "held-out"),
        "--epsilon",
        "1",
        "--ledger",
        str(site / "ledger.sqlite"),
    ]
    words += ["--classifier", "logistic", "--steps", "2", "--images", "12"]
    assert main(["select", *words, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (
        len(body["accuracies"]) == 2
        and body["epsilon"] <= 1
        and body["chosen"] in (0, 1)
        and body["unit"] == "record"
    )
    assert main(["select", *words]) == 0
    out = capsys.readouterr().out
    assert (
        "(chosen)" in out and "cost: epsilon" in out and "the guarantee covers this choice" in out
    )
    for changed, code in (
        (["--epsilon", "-1"], 2),
        (["--relation", "replace-one"], 12),
        (["--delta", "1e-4"], 12),
    ):
        assert main(["select", *words, *changed]) == code
        assert len(capsys.readouterr().err.strip().splitlines()) < 8
    assert main(["select", str(site / "held-out"), *words[2:]]) == 2


def test_what_cannot_be_compared_is_refused_before_it_costs(site, tmp_path):
    before = len(book(site).rows)
    with pytest.raises(SfumatoError, match="at least one run"):
        select([], data=site / "held-out", epsilon=1.0)
    body = json.loads((site / "draft-a" / "synthesis.json").read_text())
    body["certificate"]["public_facts"]["classes"] = ["circle", "cross"]
    (site / "draft-a" / "synthesis.json").write_text(json.dumps(body))
    with pytest.raises(SfumatoError, match="other classes"):
        choose(site, "draft-b", "draft-a")
    with pytest.raises(SfumatoError, match="synthesize"):
        choose(site, "held-out")
    assert len(book(site).rows) == before
