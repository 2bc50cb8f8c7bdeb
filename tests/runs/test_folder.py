"""The private run folder: whole or not there, marked, locked to its ledger."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import pytest

from sfumato.errors import DataError, SfumatoError
from sfumato.privacy.ledger.entries import Released
from sfumato.privacy.ledger.ledger import Ledger
from sfumato.runs import budget
from sfumato.runs.execute import own_checkpoint
from sfumato.runs.facts import ledger_facts
from sfumato.runs.folder import Run, code_version
from tests.plans import of_training

OPTIONS = {
    "performance": {"precision": "float32", "engine": "one-pass", "checkpoint_steps": 2},
    "seed": 0,
    "x": (1, 2),
}


@pytest.fixture(scope="module")
def plan():
    return of_training()


RECORDS = SimpleNamespace(fingerprints=[b"a" * 32, b"", b"b" * 32], marks={}, digest=lambda *_: "d")


@pytest.fixture
def ledger(ledger_of_the_test):
    return Ledger(ledger_of_the_test)


@pytest.fixture
def run(plan, tmp_path, ledger):
    return Run.create(tmp_path / "run", plan, OPTIONS, ledger)


def test_a_new_run_is_private_and_opens_again(run, plan):
    files = {p.name for p in run.folder.iterdir()}
    assert files == {
        "PRIVATE",
        "plan.json",
        "options.json",
        "run.key",
        "run.json",
        "ledger.head",
        "ledger.lock",
    }
    assert run.folder.stat().st_mode & 0o077 == 0
    assert (run.folder / "run.key").stat().st_mode & 0o777 == 0o600
    again = Run.open(run.folder)
    assert again.plan == plan and again.options["x"] == [1, 2] and again.key.id == run.key.id
    assert [row.kind for row in again.ledger.rows] == ["PLAN"]


def test_an_existing_folder_is_left_alone(run, plan, ledger):
    with pytest.raises(SfumatoError, match="exists"):
        Run.create(run.folder, plan, OPTIONS, ledger)


def test_two_runs_never_share_a_key_or_an_id(run, plan, tmp_path, ledger):
    other = Run.create(tmp_path / "other", plan, OPTIONS, ledger)
    assert other.key.id != run.key.id and other.id != run.id


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(plan, tmp_path, monkeypatch, call, ledger):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SfumatoError, match="No space left"):
        Run.create(tmp_path / "run", plan, OPTIONS, ledger)
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


@pytest.mark.parametrize(
    "harm", ["{", "{}", "[]", "null", "[" * 100_000], ids=["cut", "empty", "list", "null", "deep"]
)
def test_a_plan_that_does_not_read(run, harm):
    (run.folder / "plan.json").write_text(harm)
    with pytest.raises(SfumatoError, match="does not read"):
        Run.open(run.folder)


def test_a_plan_with_a_number_beyond_all_numbers_does_not_read(run):
    path = run.folder / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": 10**400}))
    with pytest.raises(SfumatoError, match="does not read"):
        Run.open(run.folder)


@pytest.mark.parametrize("name", ["id", "key_id", "ledger"])
@pytest.mark.parametrize("value", [None, [], 7])
def test_a_run_without_a_name_is_none(run, name, value):
    """With no id it would pass for every run of the ledger."""
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(SfumatoError, match="does not read"):
        Run.open(run.folder)


def test_a_ledger_that_is_damaged_gone_or_another_is_refused(run, tmp_path, ledger):
    path = run.ledger_path
    ledger.close()  # the last one to close it folds the write-ahead log into the file
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"epsilon", b"epsilom"))
    with pytest.raises(SfumatoError, match="damaged"):
        Run.open(run.folder)
    path.write_bytes(whole)
    assert Run.open(run.folder).plan == run.plan
    Ledger(tmp_path / "other.sqlite").close()
    with pytest.raises(SfumatoError, match="does not know the run"):
        Run.open(run.folder, tmp_path / "other.sqlite")
    with pytest.raises(SfumatoError, match="is gone.*--ledger"):
        Run.open(run.folder, tmp_path / "none.sqlite")


def test_a_moved_ledger_is_named(run, tmp_path, ledger):
    ledger.close()
    moved = run.ledger_path.parent.rename(tmp_path / "moved") / run.ledger_path.name
    with pytest.raises(SfumatoError, match="is gone.*--ledger"):
        Run.open(run.folder)
    assert Run.open(run.folder, moved).ledger.bodies("PLAN")


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
    for early in (
        lambda: run.begin(RECORDS, 0),
        lambda: run.record(Released(sort="model")),
        run.group,
    ):
        with pytest.raises(SfumatoError, match="charge"):
            early()
    run.charge(RECORDS)
    run.require_charge()
    salt = run.begin(RECORDS, 0)
    facts = ledger_facts(run)
    assert facts.events == json.loads((run.folder / "plan.json").read_text())["events"]
    assert (facts.attempts, facts.replays) == (1, 0) and facts.head == run.ledger.ledger.head
    assert [c["run"] for c in facts.charges] == [run.id]
    assert facts.total_epsilon == run.plan.epsilon
    assert run.ledger.bodies("ATTEMPT")[0]["salt"] == salt and len(salt) == 32
    with pytest.raises(SfumatoError, match="charged once"):
        run.charge(RECORDS)


def test_a_second_run_on_the_same_images_adds_up_to_the_cap(run, plan, tmp_path, ledger):
    run.charge(RECORDS)
    second = Run.create(tmp_path / "second", plan, OPTIONS, ledger)
    second.charge(RECORDS)
    together = ledger_facts(second).total_epsilon
    assert plan.epsilon < together < 2 * plan.epsilon and len(ledger_facts(second).charges) == 2
    budget.set_cap(ledger, RECORDS.fingerprints, together)
    third = Run.create(tmp_path / "third", plan, OPTIONS, ledger)
    with pytest.raises(SfumatoError, match=f"the cap on these images is epsilon {together:g}"):
        third.charge(RECORDS)
    with pytest.raises(SfumatoError, match="not charged"):
        third.require_charge()


def test_an_unfinished_run_has_no_model(run):
    with pytest.raises(SfumatoError, match="--resume"):
        run.model  # noqa: B018


def test_the_data_digest_is_keyed_and_secret(run, plan, tmp_path, ledger):
    asked = []
    records = SimpleNamespace(digest=lambda key, _: asked.append(key) or "d")
    other = Run.create(tmp_path / "other", plan, OPTIONS, ledger)
    assert run.data_digest(records) == other.data_digest(records) == "d"
    assert len(set(asked)) == 2 and all(len(key) == 32 for key in asked)
    assert (run.data_digest(records), asked[-1]) == ("d", asked[0])


@pytest.mark.parametrize("made", ["now", "before", "of others"])
def test_a_run_goes_on_with_its_data_by_the_digest_of_its_version(run, made):
    records = SimpleNamespace(digest=lambda _, as_before: "before" if as_before else "now")
    charged = SimpleNamespace(data=made)
    here = SimpleNamespace(
        folder=run.folder,
        data_digest=run.data_digest,
        ledger=SimpleNamespace(entries=lambda _: [charged]),
    )
    if made == "of others":
        with pytest.raises(DataError, match="not those of the run"):
            own_checkpoint(here, records)  # type: ignore[arg-type]
    else:
        assert own_checkpoint(here, records) == (0, None)  # type: ignore[arg-type]


def test_the_fingerprint_names_code_and_versions(run):
    assert run.fingerprint["code"] == code_version() and {"torch", "diffusers"} <= set(
        run.fingerprint["versions"]
    )
    json.dumps(run.fingerprint)


def test_a_model_is_known_by_its_own_files(tmp_path):
    from sfumato.runs.attempts import model_digest

    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    before = model_digest(tmp_path)
    for name in (".DS_Store", "unet/Thumbs.db"):  # left by desktops that showed the folder
        (tmp_path / name).write_bytes(b"x")
    assert model_digest(tmp_path) == before
    (tmp_path / "unet" / "more.json").write_text("{}")
    assert model_digest(tmp_path) != before
