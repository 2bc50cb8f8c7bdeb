"""The private run folder: whole or not there, marked, locked to its ledger."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import pytest

from sfumato.errors import SfumatoError
from sfumato.privacy import accounting
from sfumato.privacy.plan import make_plan
from sfumato.run import Run, code_version

OPTIONS = {"performance": {"precision": "float32", "engine": "one-pass", "checkpoint_steps": 2}, "seed": 0, "x": (1, 2)}


@pytest.fixture(scope="module")
def plan():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
        patch.setattr(accounting, "PLANNING_GRID", 1e-2)
        return make_plan(
            method="full",
            unit="record",
            n_units=100,
            max_per_unit=1,
            classes=("a", "b"),
            prompts=("a", "b"),
            epsilon=2.0,
            delta=1e-3,
            expected_batch_size=10,
            steps=3,
            noise_draws=1,
            clip_norm=0.5,
            base="base",
            base_digest="0" * 64,
            trainable=10,
            learning_rate=1e-3,
            warmup_steps=0,
            ema_decay=0.9,
            target_modules=("all",),
            rank=None,
        )


@pytest.fixture
def run(plan, tmp_path):
    return Run.create(tmp_path / "run", plan, OPTIONS)


def test_a_new_run_is_private_and_opens_again(run, plan):
    files = {p.name for p in run.folder.iterdir()}
    assert files == {"PRIVATE", "plan.json", "options.json", "run.key", "ledger.jsonl"}
    assert run.folder.stat().st_mode & 0o077 == 0
    assert (run.folder / "run.key").stat().st_mode & 0o777 == 0o600
    again = Run.open(run.folder)
    assert again.plan == plan and again.options["x"] == [1, 2] and again.key.id == run.key.id
    assert [row["kind"] for row in again.ledger.rows] == ["PLAN"]


def test_an_existing_folder_is_left_alone(run, plan):
    with pytest.raises(SfumatoError, match="exists"):
        Run.create(run.folder, plan, OPTIONS)


def test_two_runs_never_share_a_key(run, plan, tmp_path):
    assert Run.create(tmp_path / "other", plan, OPTIONS).key.id != run.key.id


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_leaves_nothing(plan, tmp_path, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SfumatoError, match="No space left"):
        Run.create(tmp_path / "run", plan, OPTIONS)
    assert not list(tmp_path.iterdir())


def test_no_run_folder(tmp_path):
    with pytest.raises(SfumatoError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_plan_with_less_noise_than_was_charged_is_refused(run):
    path = run.folder / "plan.json"
    body = json.loads(path.read_text())
    body["noise_multiplier"] /= 2
    body["events"][-1]["noise_multiplier"] /= 2
    path.write_text(json.dumps(body))
    with pytest.raises(SfumatoError, match="not those that the ledger knows"):
        Run.open(run.folder)


def test_altered_options_are_refused(run):
    path = run.folder / "options.json"
    body = json.loads(path.read_text())
    body["performance"]["checkpoint_steps"] = 1
    path.write_text(json.dumps(body))
    with pytest.raises(SfumatoError, match="not those that the ledger knows"):
        Run.open(run.folder)


@pytest.mark.parametrize("harm", ["{", "{}", "[]", "null"])
def test_a_plan_that_does_not_read(run, harm):
    (run.folder / "plan.json").write_text(harm)
    with pytest.raises(SfumatoError, match="does not read"):
        Run.open(run.folder)


def test_a_damaged_ledger_is_refused(run):
    path = run.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"epsilon", b"epsilom"))
    with pytest.raises(SfumatoError, match="damaged"):
        Run.open(run.folder)


def test_a_missing_or_open_key_is_refused(run):
    (run.folder / "run.key").chmod(0o644)
    with pytest.raises(SfumatoError, match="readable by other users"):
        Run.open(run.folder).key  # noqa: B018
    (run.folder / "run.key").unlink()
    with pytest.raises(SfumatoError, match="cannot be read"):
        Run.open(run.folder).key  # noqa: B018


def test_the_charge_is_the_plans_and_comes_first(run):
    with pytest.raises(SfumatoError, match="not charged"):
        run.require_charge()
    with pytest.raises(SfumatoError, match="CHARGE"):
        run.record("ATTEMPT", {"attempt": 0})
    run.charge()
    run.require_charge()
    facts = run.ledger_facts()
    assert facts["events"] == json.loads((run.folder / "plan.json").read_text())["events"]
    assert (facts["attempts"], facts["replays"], facts["entries"]) == (0, 0, 2) and facts["head"] == run.ledger.head
    run.charge()
    with pytest.raises(SfumatoError, match="not charged with this plan"):
        run.require_charge()


def test_a_ledger_row_that_the_disk_refuses_is_one_line(run, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SfumatoError, match="No space left"):
        run.charge()
    monkeypatch.undo()
    assert [row["kind"] for row in run.ledger.rows] == ["PLAN"]


def test_an_unfinished_run_has_no_model(run):
    with pytest.raises(SfumatoError, match="--resume"):
        run.model  # noqa: B018


def test_the_data_digest_is_keyed_and_secret(run, plan, tmp_path):
    asked = []
    records = SimpleNamespace(digest=lambda key: asked.append(key) or "d")
    other = Run.create(tmp_path / "other", plan, OPTIONS)
    assert run.data_digest(records) == other.data_digest(records) == "d"
    assert len(set(asked)) == 2 and all(len(key) == 32 for key in asked)
    assert (run.data_digest(records), asked[-1]) == ("d", asked[0])


def test_the_fingerprint_names_code_and_versions(run):
    assert run.fingerprint["code"] == code_version() and {"torch", "diffusers"} <= set(run.fingerprint["versions"])
    json.dumps(run.fingerprint)
