"""The list of checks: names, settings, order, failures, the rows and the record."""

from __future__ import annotations

import json

import pytest

from sfumato.auditing import CHECKS, Finding, Settings, __main__, checks, report, run_checks


def finding(check="M1", passed=True, numbers=3, detail="", alpha=0.0):
    return Finding(check, "something", passed, numbers, alpha, "a deviation of one", detail, 0.5)


def fake(*findings):
    return lambda now: iter(findings)


def test_every_check_says_in_one_line_what_it_is():
    assert set(CHECKS) == {
        "M1",
        "M2",
        "M3",
        "M4",
        "M5",
        "M6",
        "M7",
        "M8",
        "A",
        "A2",
        "B",
        "B2",
        "B3",
        "H",
        "E",
        "U",
        "METHODS",
    }
    assert all(check.__doc__ and len(check.__doc__) < 150 for check in CHECKS.values())


def test_checks_run_by_name_in_order_and_can_stop_at_the_first_failure():
    found = {"one": fake(finding("one"), finding("one", passed=False)), "two": fake(finding("two"))}
    seen = []
    assert [f.check for f in run_checks(checks=found, on_finding=seen.append)] == [
        "one",
        "one",
        "two",
    ]
    assert [f.check for f in seen] == ["one", "one", "two"]
    assert [f.check for f in run_checks(["two", "one"], checks=found)] == ["two", "one", "one"]
    assert [f.passed for f in run_checks(checks=found, stop=True)] == [True, False]
    with pytest.raises(KeyError):
        run_checks(["three"], checks=found)


def test_a_check_that_raises_has_failed():
    def broken(now):
        yield finding()
        raise ZeroDivisionError("no\nnumbers")

    first, last = run_checks(checks={"M1": broken})
    assert (
        first.passed
        and not last.passed
        and last.detail == "stopped with ZeroDivisionError: no numbers"
    )


def test_the_seed_decides_everything():
    first, again = (run_checks(["B"], Settings(seed=5, quick=True)) for _ in range(2))
    assert [f.to_json() for f in first] == [f.to_json() for f in again]
    assert report.fresh_seed() != report.fresh_seed()


def test_quick_covers_every_family_and_every_clipping():
    assert {family for family, _ in checks.FEW} == set(checks.FAMILIES)
    assert {kind for _, kind in checks.FEW} == set(checks.CLIPPINGS)


def test_the_sentences_that_an_audit_must_carry():
    assert report.sentences([finding()]) == [report.NO_PROOF]
    enough = finding("A", numbers=330_000, alpha=1e-6)
    assert report.sentences([enough, finding("E")]) == [
        report.NO_PROOF,
        report.NOISE_SEEN,
        report.READING,
    ]
    assert report.NOISE_SEEN not in report.sentences([finding("A", numbers=300_000, alpha=1e-6)])
    assert report.NOISE_SEEN not in report.sentences(
        [finding("A", passed=False, numbers=10**6, alpha=1e-6)]
    )


def test_rows_and_summary_say_what_passed_and_what_not(capsys):
    report.print_row(finding(detail="unit 3 adds 2 C", passed=False))
    first, second = capsys.readouterr().out.splitlines()
    assert (
        first.startswith("FAIL M1")
        and "a deviation of one" in first
        and "unit 3 adds 2 C" in second
    )
    lines = report.summary([finding(), finding(passed=False, alpha=1e-6)], Settings(seed=9))
    assert (
        lines[0] == "FAIL: 1 of 2 passed in 1 s, seed 9"
        and "once in 1,000,000 audits" in lines[1]
        and report.NO_PROOF in lines
    )


def test_the_record_is_plain_json_and_empty_audits_have_not_passed():
    body = report.record(
        [finding()], Settings(), complete=True, plan="d", code_version="v", versions={}, skipped=[]
    )
    assert json.loads(json.dumps(body)) == body and body["passed"] and body["settings"]["seed"] == 0
    assert "seconds" not in body["findings"][0]
    assert not report.record([], Settings())["passed"]
    assert not report.record([finding(passed=False)], Settings())["passed"]


def test_the_module_runs_checks_by_name(monkeypatch, capsys):
    monkeypatch.setitem(CHECKS, "B", fake(finding("B")))
    monkeypatch.setitem(CHECKS, "H", fake(finding("H", passed=False)))
    assert __main__.main(["--only", "B"]) == 0
    assert __main__.main(["--only", "B", "H", "--fresh"]) == 15
    assert "PASS: 1 of 1" in capsys.readouterr().out
    assert __main__.main(["--list"]) == 0 and "M6" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        __main__.main(["--only", "Z"])
