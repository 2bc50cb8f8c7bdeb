"""Several runs on the same people: what joins, what adds up, what has no total, from files to the
facts of a certificate.
"""

from __future__ import annotations

import shutil

import pytest

from sfumato import verbs
from sfumato.bases import latents
from sfumato.errors import BudgetError, DataError, SfumatoError
from sfumato.methods import Lora
from sfumato.options import Performance
from sfumato.planning import timing
from sfumato.planning.prepare import CLASSES_FOUND
from sfumato.privacy.ledger.datasets import APART, MIXED
from sfumato.records import load_records
from sfumato.runs import budget
from sfumato.runs.facts import ledger_facts
from sfumato.runs.folder import Run

TRUSTED_GRADIENTS = True


class Charged(BaseException):
    """Stands for the end of a test's interest: the run is charged and nothing is trained."""


@pytest.fixture
def settings(tiny_base):
    return {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": Lora(rank=2),
        "expected_batch_size": 8,
        "steps": 3,
        "performance": Performance(micro_batch=8, precision="float32"),
    }


@pytest.fixture
def charge(settings, tmp_path, monkeypatch):
    """Charge a run on a folder; returns it."""

    def stop(*_):
        raise Charged

    monkeypatch.setattr(latents, "encode", stop)
    monkeypatch.setattr(timing, "_reading", lambda base, count: 0.0)  # what `plan` times

    def run(images, name, **more):
        with pytest.raises(Charged):
            said = {"anyway": True, "yes_public": True} | settings | more
            verbs.adapt(images, output=tmp_path / name, **said)
        return Run.open(tmp_path / name)

    return run


def table(folder, images, who):
    """A folder of links' worth: pictures copied, with the patient of each."""
    folder.mkdir()
    rows = ["file_name,label,patient"]
    for number, picture in enumerate(images):
        shutil.copy(picture, folder / f"{number}.png")
        rows.append(f"{number}.png,{picture.parent.name},{who(number)}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def pictures(tiny_images):
    return sorted(tiny_images.rglob("*.png"))


def total(run):
    facts = ledger_facts(run)
    return len(facts.charges), facts.total_epsilon, facts.no_total


def test_another_partition_has_no_total_and_is_refused_under_a_cap(
    charge, settings, pictures, tmp_path
):
    pairs = table(tmp_path / "pairs", pictures, lambda i: f"p{i // 2}")
    first = charge(pairs, "one", unit="patient")
    assert total(first) == (1, first.plan.epsilon, None)
    cut = table(tmp_path / "cut", pictures, lambda i: f"scan-{i}")
    assert APART in verbs.plan(cut, unit="patient", **settings).remarks[0]
    assert total(charge(cut, "two", unit="patient")) == (2, None, APART) and total(first)[1] is None
    records = load_records(pairs, unit="patient")
    budget.set_cap(first.ledger.ledger, records.fingerprints, 100.0, **records.marks)
    with pytest.raises(BudgetError, match="no total can be held against it"):
        verbs.adapt(
            pairs,
            anyway=True,
            yes_public=True,
            output=tmp_path / "three",
            unit="patient",
            **settings,
        )
    assert not (tmp_path / "three").exists()


def test_images_and_patients_have_no_total(charge, pictures, tmp_path):
    images = table(tmp_path / "images", pictures, lambda i: f"p{i // 2}")
    charge(images, "one")
    second = charge(images, "two", unit="patient")
    assert total(second) == (2, None, MIXED)


def test_other_images_of_the_same_patients_add_up_whatever_the_spelling(charge, pictures, tmp_path):
    first = charge(
        table(tmp_path / "then", pictures[::2], lambda i: f"P{i:02d}"), "one", unit="patient"
    )
    second = charge(
        table(
            tmp_path / "now", pictures[1::2], lambda i: f" p\uff10{i}\u200b" if i < 10 else f"P{i}"
        ),
        "two",
        unit="patient",
    )
    runs, epsilon, reason = total(second)
    assert (
        runs == 2 and reason is None and first.plan.epsilon < epsilon < 2 * first.plan.epsilon + 0.1
    )
    others = charge(
        table(tmp_path / "others", pictures[1::2], lambda i: f"Q{i}"), "three", unit="patient"
    )
    assert total(others)[0] == 3, "the same pictures, whatever they are called"


def test_a_column_that_was_renamed_and_a_table_that_was_sorted_change_nothing(
    charge, pictures, tmp_path
):
    first = charge(
        table(tmp_path / "then", pictures, lambda i: f"p{i // 3}"), "one", unit="patient"
    )
    again = table(tmp_path / "now", pictures, lambda i: f"P{i // 3} ")
    lines = (again / "metadata.csv").read_text().replace("patient", "person").split("\n")
    (again / "metadata.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    runs, epsilon, reason = total(charge(again, "two", unit="person"))
    assert runs == 2 and reason is None and epsilon > first.plan.epsilon


def test_another_decoder_does_not_make_other_pictures(charge, tmp_path, pictures):
    whole = table(tmp_path / "whole", pictures, lambda i: i)
    first = charge(whole, "one")
    records = load_records(whole)
    # as if every picture had decoded to other pixels
    other = tuple(bytes(reversed(p)) for p in records.fingerprints)
    known = budget.standing(first.ledger.ledger, other, **records.marks)
    assert known.runs == 1 and budget.standing(first.ledger.ledger, other).runs == 0
    assert known.remark.startswith("these images have cost epsilon")


def test_a_found_list_with_a_rare_class_is_refused_before_the_charge(
    charge, pictures, tmp_path, ledger_of_the_test
):
    rare = table(tmp_path / "rare", pictures, lambda i: i)
    text = (rare / "metadata.csv").read_text().replace("0.png,circle", "0.png,the-only-one", 1)
    (rare / "metadata.csv").write_text(text)
    said = {"base": "icons", "epsilon": 2.0, "delta": 1e-2}
    with pytest.raises((DataError, Charged)) as caught:
        verbs.adapt(rare, anyway=True, output=tmp_path / "no", **said)
    assert isinstance(caught.value, DataError) and "fewer than" in str(caught.value)
    assert not (tmp_path / "no").exists() and not [
        r for r in budget.open_ledger(ledger_of_the_test).rows if r.kind == "CHARGE"
    ]
    run = charge(rare, "told", yes_public=True)
    assert (
        "the-only-one" in run.plan.classes and CLASSES_FOUND in run.options["statements"]["opt_ins"]
    )
    with pytest.raises(Charged):  # the list is the plan's, however it is read again
        verbs.adapt(rare, output=tmp_path / "told", resume=True)
    declared = charge(rare, "declared", classes=["circle", "cross", "square"], max_bad=0.1)
    assert (
        "the-only-one" not in declared.plan.classes
        and not declared.options["statements"]["opt_ins"]
    )
    with pytest.raises(SfumatoError, match="give one"):
        verbs.adapt(
            rare,
            anyway=True,
            yes_public=["circle"],
            output=tmp_path / "no",
            classes=["circle"],
            **said,
        )
