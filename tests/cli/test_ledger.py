"""`sfumato ledger`: what was spent, the cap, and the chain for an auditor."""

from __future__ import annotations

import json
import shutil

import pytest

from sfumato.cli import main
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.privacy.ledger.runs import RunLedger
from sfumato.records import load_records


@pytest.fixture
def run(capsys):
    def call(*words, code=0):
        assert main(["ledger", *map(str, words)]) == code
        out, err = capsys.readouterr()
        return (out if code == 0 else err).strip()

    return call


def test_before_anything_was_spent(run, tmp_path, tiny_images, ledger_of_the_test):
    for words in (["show"], ["export"], ["show", tiny_images]):
        assert "no ledger yet" in run(*words, code=13)
    assert not ledger_of_the_test.exists()


def test_cap_show_and_export(run, tmp_path, tiny_images, ledger_of_the_test):
    assert (
        run("cap", tiny_images, 3.5)
        == "cap 3.5 on 24 images\nthese images have cost epsilon 0.000 in 0 earlier runs; the cap"
        " is 3.5"
    )
    assert (
        "group 1: no run was charged on these images (only a cap was set), cap 3.5, 1 data set"
        in run("show")
    )
    assert "previously 3.5" in run("cap", tiny_images, 2)
    ledger = Ledger(ledger_of_the_test)
    RunLedger(ledger, "ab12").append("PLAN", {})
    terms = {"unit": "record", "relation": "zero-out", "delta": 1e-3}
    body = {
        "events": [{"type": "gaussian", "noise_multiplier": 3.0, "count": 1}],
        "epsilon": 0.9,
        **terms,
    }
    row = ledger.charge(
        "ab12", ledger.identify(load_records(tiny_images).fingerprints), body, lambda *_: 0.9
    )
    shown = run("show")
    assert "group 1: epsilon" in shown and "in 1 run, cap 2, 1 data set" in shown
    assert (
        "run ab12: epsilon 0.900, delta 0.001, unit 'record', zero-out" in shown
        and ledger.head in shown
    )
    assert "in 1 earlier run; the cap is 2" in run("show", tiny_images)
    (tmp_path / "privacy.json").write_text(json.dumps({"ledger": {"head": row.hash}}))
    assert "not a certificate" in run("show", "--against", tmp_path / "privacy.json", code=2)
    lines = run("export").splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(len(ledger.rows)))
    assert "rows, head" in run("export", "-o", tmp_path / "chain.jsonl")
    assert (tmp_path / "chain.jsonl").read_text().splitlines() == lines
    assert "exists" in run("export", "-o", tmp_path / "chain.jsonl", code=2)


def test_reset_accepts_an_older_copy_and_says_so(run, tmp_path, tiny_images, ledger_of_the_test):
    assert "no ledger to reset" in run("reset", code=2)
    run("cap", tiny_images, 3.5)
    assert "nothing to reset" in run("reset", code=2)
    old = (
        "--ledger",
        shutil.copytree(ledger_of_the_test.parent, tmp_path / "old") / ledger_of_the_test.name,
    )
    run("cap", tiny_images, 2)
    shutil.copy(f"{ledger_of_the_test}.head", f"{old[1]}.head")
    assert "older copy" in run("show", *old, code=13)
    assert (
        run("reset", *old) == "row 3: RESET, 1 rows are missing; every later certificate shows it"
    )
    assert "row 3: RESET at 2" in run("show", *old) and "cap 3.5" in run("show", *old)


@pytest.mark.parametrize("epsilon", ["0", "-1", "nan", "inf", "x"])
def test_caps_that_are_none(run, tiny_images, epsilon):
    assert run("cap", tiny_images, "--", epsilon, code=2).startswith("sfumato: ")
