"""A declared range from the plan to the certificate: the run remembers it, all read by it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sfumato import verbs
from sfumato.errors import SfumatoError
from sfumato.methods import Lora
from sfumato.options import FIXED, Performance, Reading, Values, declared_values
from sfumato.planning.facts import PublicFacts
from sfumato.planning.inputs import as_planned
from sfumato.records import load_records
from sfumato.runs.folder import Run
from sfumato.verbs import real_images
from sfumato.verbs.evaluate import evaluate
from sfumato.verbs.select import Candidate, _valued_as_all

TRUSTED_GRADIENTS = True

TWELVE = Values(0, 4095)
SAID = "values 0..4095 -> 0..255, declared"


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies_after_two(now, plan):
    if now.step == 2:
        raise Killed


def write_scans(root, seed: int):
    r = np.random.default_rng(seed)
    for k, name in enumerate(("lesion", "normal")):
        (root / name).mkdir(parents=True)
        for i in range(8):
            grey = r.integers(0, 600, (16, 16)).astype(np.uint16) + 1800 * k
            Image.fromarray(grey).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("scans") / "set", 3)


@pytest.fixture(scope="module")
def settings(tiny_base):
    return {
        "epsilon": 2.0,
        "delta": 1e-2,
        "base": str(tiny_base),
        "method": Lora(rank=2),
        "expected_batch_size": 8,
        "steps": 4,
        "performance": Performance(micro_batch=8, checkpoint_steps=2, precision="float32"),
        "anyway": True,
    }


@pytest.fixture(scope="module", autouse=True)
def one_version():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
        yield


@pytest.fixture(scope="module")
def run(scans, settings, tmp_path_factory):
    """Died after step 2 and resumed without a word of the range."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    said = {"value_range": "12bit", "yes_public": True}
    with pytest.raises(Killed):
        verbs.adapt(scans, output=folder, progress=dies_after_two, **said, **settings)
    with pytest.raises(SfumatoError, match="the run declared other stored values.*4095"):
        verbs.adapt(scans, output=folder, resume=True, window="100/50")
    return verbs.adapt(scans, output=folder, resume=True)


def test_the_plan_lists_what_is_declared_and_detects_nothing(scans, settings):
    report = verbs.plan(scans, value_range="12bit", yes_public=True, **settings)
    assert report.values == SAID and dict(report.public)["stored values"] == SAID
    assert SAID in dict(report.public)["opted in to"]
    plain = verbs.plan(scans, yes_public=True, **settings)
    assert "by its type" in plain.values and "stored values" not in dict(plain.public)
    assert not any("12" in remark or "range" in remark for remark in plain.remarks)
    assert plain.plan == report.plan  # what is declared changes no price


def test_a_plan_follows_from_the_declaration_alone(scans, tmp_path):
    other = write_scans(tmp_path / "other", 4)
    facts = [
        PublicFacts.of(load_records(p, values=declared_values("12bit"))) for p in (scans, other)
    ]
    assert facts[0] == facts[1] and facts[0].values == TWELVE


def test_the_run_remembers_it_and_other_levels_are_not_its_data(run, scans):
    assert Values.kept(run.options) == Values.kept(Run.open(run.folder).options) == TWELVE
    assert as_planned(Reading(), run.plan, TWELVE).values == TWELVE
    assert as_planned(Reading(value_range=(0, 4095)), run.plan, TWELVE).values == TWELVE
    with pytest.raises(SfumatoError, match="leave out --range"):
        as_planned(Reading(invert=True), run.plan, TWELVE)


def test_a_run_of_an_earlier_version_has_no_declaration(run):
    earlier = {name: kept for name, kept in run.options.items() if name != "values"}
    assert Values.kept(earlier) == FIXED
    assert as_planned(Reading(invert=True), run.plan, Values(invert=True)).invert
    assert as_planned(Reading(), run.plan, FIXED) == as_planned(Reading(), run.plan, FIXED)


def test_the_certificate_and_the_page_for_signature_say_it(run, tmp_path):
    verbs.synthesize(run, 4, tmp_path / "drawn", keep_key=True)
    verbs.release(tmp_path / "drawn", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "privacy.json").read_text())
    opt_ins = facts.get("certificate", facts)["not_private"]["opt_ins"]
    (words,) = [text for text in opt_ins if SAID in text]
    assert "chosen by the owner and may have been read off the data" in words
    assert words in " ".join((tmp_path / "out" / "PRIVACY.md").read_text().split())
    verbs.verify(tmp_path / "out")


def test_held_out_images_are_read_as_the_run_reads_its_own(run, scans, tmp_path, monkeypatch):
    test = write_scans(tmp_path / "test", 5)
    seen = []
    read = real_images.load_records

    def noted(*arguments, **keywords):
        seen.append(read(*arguments, **keywords))
        return seen[-1]

    monkeypatch.setattr(real_images, "load_records", noted)
    verbs.synthesize(run, 12, tmp_path / "out", keep_key=True)
    evaluate(
        run, tmp_path / "out", test=test, train=scans, rows=("synthetic", "real"),
        classifiers=("logistic",), seeds=1, steps=2, distances=False,
    )  # fmt: skip
    values = {records.source: records.values for records in seen}
    assert values[str(test)] == values[str(scans)] == TWELVE
    assert values[str(tmp_path / "out")] == FIXED  # synthetic pictures are 8 bits of their own


def candidate(values):
    return Candidate("run", "id", ("a", "b"), 16, lambda: None, values)


def test_a_selection_reads_as_the_runs_do_and_compares_no_others():
    asked = Reading(unit="p")
    assert _valued_as_all(asked, [candidate(TWELVE), candidate(None)]).values == TWELVE
    assert _valued_as_all(asked, [candidate(None)]) == asked
    with pytest.raises(SfumatoError, match="different stored values"):
        _valued_as_all(asked, [candidate(TWELVE), candidate(FIXED)])
