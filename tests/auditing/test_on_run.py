"""The audit of a run: nothing private is opened, the record is known to the ledger, the certificate
states it, and a release may ask for it.
"""

from __future__ import annotations

import json
import shutil

import pytest

from sfumato import verbs
from sfumato.auditing import Settings, on_run
from sfumato.cli import main
from sfumato.errors import AuditFailed, SfumatoError
from sfumato.methods import Saliency
from sfumato.options import Performance
from sfumato.releases import DRAFT, audited, finalise
from sfumato.runs.folder import Run, code_version

SOME = ["M3", "B", "H"]


@pytest.fixture(scope="module")
def run(whole_tiny_base, tiny_images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    return verbs.adapt(
        tiny_images,
        anyway=True,
        yes_public=True,
        output=folder / "run",
        ledger=folder / "ledger.sqlite",
        base=str(whole_tiny_base),
        method=Saliency(keep=2, rank=2, probe_units=8, probe_draws=1, probe_noise=80.0),
        epsilon=0.2,
        delta=1e-3,
        steps=2,
        expected_batch_size=6,
        noise_draws=2,
        histogram=80.0,
        clipping="per-group",
        classes=["circle", "cross", "square"],
        performance=Performance(micro_batch=8, precision="float32"),
    )


@pytest.fixture
def bare(run, tmp_path):
    """The same run, without anything that is private or was learnt from private images."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    for name in ("cache", "checkpoints", "model"):
        shutil.rmtree(folder / name)
    (folder / "run.key").unlink()
    shutil.copy(run.ledger_path, tmp_path / "ledger.sqlite")
    for more in run.ledger_path.parent.glob("ledger*"):
        shutil.copy(more, tmp_path / more.name)
    return Run.open(folder, tmp_path / "ledger.sqlite")


def test_a_run_is_audited_without_anything_private(bare, capsys):
    found = []
    body = on_run.audit_run(bare, names=SOME, on_finding=found.append)
    assert (
        body["passed"]
        and not body["complete"]
        and [f.check for f in found] == [f["check"] for f in body["findings"]]
    )
    assert {f.check for f in found} == set(SOME) and any("probe" in f.subject for f in found)
    assert (
        body["plan"] == bare.plan.digest
        and body["code_version"] == code_version()
        and body["versions"]["torch"]
    )
    assert (
        Run.open(bare.folder, bare.ledger_path).audit
        == body
        == json.loads((bare.folder / "audit.json").read_text())
    )


def test_all_checks_of_a_run_exist_and_follow_from_its_plan(bare):
    assert set(on_run.checks_of(bare)) == {
        "M1",
        "M2",
        "M3",
        "M4",
        "M6",
        "A",
        "A2",
        "B",
        "B2",
        "B3",
        "H",
        "E",
    }
    exact, own = on_run.subjects(bare)
    assert exact.plan.clip_groups == own.plan.clip_groups == 2 and own.exact
    probe = on_run.one_shots(bare)[1]
    assert probe.sigma == 80.0 and probe.sensitivity == pytest.approx(2**0.5)
    with pytest.raises(SfumatoError, match="METHODS"):
        on_run.audit_run(bare, names=["METHODS"])


def test_an_altered_record_is_noticed(bare):
    assert bare.audit is None
    body = on_run.audit_run(bare, names=["B"])
    path = bare.folder / "audit.json"
    path.write_text(json.dumps(body | {"passed": True, "complete": True}))
    with pytest.raises(SfumatoError, match="audit the run again"):
        assert Run.open(bare.folder, bare.ledger_path).audit
    path.unlink()
    with pytest.raises(SfumatoError, match="audit the run again"):
        assert Run.open(bare.folder, bare.ledger_path).audit


def test_a_failure_is_recorded_and_ends_with_15(bare, monkeypatch, capsys):
    from sfumato.auditing import sampling

    monkeypatch.setattr(sampling, "poisson", lambda k, t, a, n, q: range(0, n, 3))
    assert main(["audit", str(bare.folder), "--ledger", str(bare.ledger_path), "--only", "B"]) == 15
    out = capsys.readouterr()
    assert "FAIL B" in out.out and "in doubt" in out.err
    assert not Run.open(bare.folder, bare.ledger_path).audit["passed"]
    assert main(["audit", "--only", "Q"]) == 2


def record(**changes):
    one = {
        "check": "A",
        "subject": "s",
        "passed": True,
        "numbers": 9,
        "alpha": 0.0,
        "sees": "x",
        "detail": "",
    }
    facts = {
        "passed": True,
        "complete": True,
        "settings": {"seed": 3, "alpha": 1e-6, "quick": False, "more": 0},
        "plan": "p",
        "code_version": "v",
        "versions": {"torch": "1"},
        "findings": [one],
        "sentences": [audited.NO_PROOF],
        "skipped": ["x"],
    }
    return facts | changes


def test_the_certificate_says_what_was_found():
    facts = audited.audit_facts(record(), ["v", "v"])
    assert (
        facts["run"]
        and facts["passed"]
        and facts["same_code"]
        and facts["findings"][0]["check"] == "A"
    )
    assert "1 of 1 findings passed" in facts["statement"] and facts["statement"].endswith(
        audited.NO_PROOF
    )
    audited.check_audit(facts)
    none = audited.audit_facts(None, ["v"])
    assert not none["run"] and none["statement"].startswith("None was run")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"findings": [record()["findings"][0] | {"passed": False}]}, "v", "failed"),
        ({"passed": False}, "v", "failed"),
        ({"findings": []}, "v", "failed"),
        ({"complete": False}, "v", "left checks out"),
        ({}, "w", "another version"),
        ({}, "vw", "another version"),  # trained by one, released by the other
    ],
)
def test_a_release_may_refuse(changes, code, words):
    facts = audited.audit_facts(record(**changes), list(code))
    with pytest.raises(AuditFailed, match=words):
        audited.check_audit(facts)
    assert AuditFailed.exit_code == 15


def test_an_audit_that_failed_before_is_told():
    assert audited.audit_facts(record(), ["v"], 2)["failed_before"] == 2
    assert "failed before: 2." in audited.audit_facts(record(), ["v"], 2)["statement"]
    assert audited.audit_facts(record(passed=False), ["v"], 1)["failed_before"] == 0


def test_export_states_the_audit_and_release_asks_for_it(run, tmp_path, monkeypatch, capsys):
    quick = {name: lambda now: iter(()) for name in on_run.checks_of(run)}
    quick["B"] = on_run.checks_of(run)["B"]
    monkeypatch.setattr(on_run, "checks_of", lambda run: quick)
    on_run.audit_run(run, Settings(seed=4))
    made = verbs.export(run, tmp_path / "after", keep_key=True)
    draft = json.loads((made / DRAFT).read_text())
    unaudited = shutil.copytree(made, tmp_path / "before")
    draft["certificate"]["audit"] = audited.audit_facts(None, ["v"])
    draft["ledger"] = str(tmp_path / "gone.sqlite")
    (unaudited / DRAFT).write_text(json.dumps(draft))
    assert main(["release", str(unaudited), "--require-audit", "--without-ledger"]) == 15
    assert "was not audited" in capsys.readouterr().err
    finished = finalise(made, require_audit=True)
    claim = json.loads((finished / "privacy.json").read_text())["audit"]
    assert claim["passed"] and claim["complete"] and claim["settings"]["seed"] == 4
    assert claim["statement"] in (finished / "PRIVACY.md").read_text()
    assert verbs.verify(finished).ok
