"""A new attempt is billed by what the ledger knows was started, whatever became of files and
clocks; what it does not know is not sealed.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sfumato import verbs
from sfumato.compute import fingerprint, ranks, threads
from sfumato.errors import DataError, LedgerFault, SfumatoError
from sfumato.methods import Lora, dpsgd
from sfumato.options import Performance
from sfumato.privacy.ledger.entries import Attempt
from sfumato.privacy.ledger.notes import Interval
from sfumato.runs import attempts, execute, folder, workspace
from sfumato.runs.folder import Run

TRUSTED_GRADIENTS = True


def steady(patch):
    patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    steady(monkeypatch)


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies_after(step):
    def progress(now, plan):
        if now.step == step:
            raise Killed

    return progress


@pytest.fixture(scope="module")
def died(tiny_images, tiny_base, tmp_path_factory):
    """A run of 7 steps with checkpoints every 3, that died after step 4: it had begun the interval
    from 3 to 6.
    """
    with pytest.MonkeyPatch.context() as patch:
        steady(patch)
        folder = tmp_path_factory.mktemp("runs") / "run"
        with pytest.raises(Killed):
            verbs.adapt(
                tiny_images,
                anyway=True,
                yes_public=True,
                output=folder,
                ledger=folder.parent / "book" / "ledger.sqlite",
                epsilon=4.0,
                delta=1e-2,
                base=str(tiny_base),
                method=Lora(rank=2),
                expected_batch_size=8,
                steps=7,
                retry_fraction=1.0,
                progress=dies_after(4),
                performance=Performance(micro_batch=8, checkpoint_steps=3, precision="float32"),
            )
        return Run.open(folder)


@pytest.fixture
def run(died, tmp_path):
    book = shutil.copytree(died.ledger_path.parent, tmp_path / "book")
    return Run.open(shutil.copytree(died.folder, tmp_path / "run"), book / died.ledger_path.name)


def resume(run, images, **more):
    return verbs.adapt(images, output=run.folder, resume=True, ledger=run.ledger_path, **more)


def intervals(run):
    return [
        (note["attempt"], *note["interval"])
        for note in run.ledger.bodies("NOTE")
        if "interval" in note
    ]


def billed(run):
    return [body["billed"] for body in run.ledger.bodies("ATTEMPT")]


def again(run, images, step):
    with pytest.raises(Killed):
        resume(run, images, new_attempt=True, progress=dies_after(step))


def test_every_interval_is_noted_before_its_steps(run, tiny_images, monkeypatch):
    right, seen = dpsgd.train, []

    def train(plan, *rest, state, on_step, **more):
        def step(now, state):
            seen.append((now.step, intervals(run)[-1][1:]))
            return on_step(now, state)

        seen.append((state.step, intervals(run)[-1][1:]))
        return right(plan, *rest, state=state, on_step=step, **more)

    monkeypatch.setattr(dpsgd, "train", train)
    resume(run, tiny_images)
    assert seen == [(3, (3, 6)), (4, (3, 6)), (5, (3, 6)), (6, (3, 6)), (7, (6, 7))]
    assert intervals(run) == [(0, 0, 3), (0, 3, 6), (0, 3, 6), (0, 6, 7)]


def test_steps_that_cannot_be_noted_are_not_run(run, tiny_images, monkeypatch):
    ran = []
    monkeypatch.setattr(dpsgd, "train", lambda *_, **__: ran.append(1))
    right = Run.record

    def full(self, entry):
        if isinstance(entry, Interval):
            raise LedgerFault("the disk is full")
        right(self, entry)

    monkeypatch.setattr(Run, "record", full)
    with pytest.raises(LedgerFault):
        resume(run, tiny_images)
    assert not ran


@pytest.mark.parametrize("harm", ["none", "deleted", "newest", "clock"])
def test_a_new_attempt_pays_for_all_that_was_started(run, tiny_images, harm, monkeypatch):
    place, start = run.folder / "checkpoints", 3
    if harm == "deleted":
        shutil.rmtree(place)
        start = 0
    elif harm == "newest":
        for path in place.glob("step-000003.*"):
            path.unlink()
        start = 0  # there is no other one
    elif harm == "clock":
        for path in place.iterdir():
            os.utime(path, (0, 0))
    again(run, tiny_images, 5)
    last = run.ledger.bodies("ATTEMPT")[-1]
    assert (last["from_step"], last["billed"]) == (start, 6 - start)


def test_a_folder_that_takes_no_checkpoint_hides_nothing(run, tiny_images, monkeypatch):
    """The steps are billed though no checkpoint of theirs was ever written."""

    def refuses(*_, **__):
        raise SfumatoError("cannot write step-000006.safetensors")

    monkeypatch.setattr(workspace, "write_checkpoint", refuses)
    with pytest.raises(SfumatoError, match="cannot write"):
        resume(run, tiny_images, new_attempt=True)
    with pytest.raises(SfumatoError, match="cannot write"):
        resume(run, tiny_images, new_attempt=True)
    assert billed(run) == [0, 3, 3] and intervals(run)[-2:] == [(1, 3, 6), (2, 3, 6)]


def test_an_attempt_that_began_no_step_costs_nothing(run, tiny_images, monkeypatch):
    monkeypatch.setattr(dpsgd, "train", lambda *_, **__: pytest.fail("no step was to run"))
    monkeypatch.setattr(execute, "_encode", lambda *_: (_ for _ in ()).throw(Killed))
    for _ in range(2):
        with pytest.raises(Killed):
            resume(run, tiny_images, new_attempt=True)
    assert billed(run) == [0, 3, 0]


def test_steps_of_another_process_are_not_missed(run, tiny_images, monkeypatch):
    """A copy of the folder that begins an interval while this one reckons makes the bill
    too small.
    """
    right = attempts.reached

    def meanwhile(seen, attempt):
        found = right(seen, attempt)
        Run.open(run.folder, run.ledger_path).record(Interval(interval=[6, 7], attempt=0))
        return found

    monkeypatch.setattr(execute, "reached", meanwhile)
    with pytest.raises(LedgerFault, match="another copy"):
        resume(run, tiny_images, new_attempt=True)
    assert billed(run) == [0]


def test_the_attempt_before_runs_no_further(run, tiny_images):
    """Its next interval is refused once a new attempt has begun: what it was billed for is all that
    it runs.
    """
    twin = Run.open(shutil.copytree(run.folder, run.folder.with_name("twin")), run.ledger_path)
    again(twin, tiny_images, 4)
    with pytest.raises(LedgerFault, match="another copy"):
        attempts.begin_interval(run, 0, 6)


def test_a_model_without_a_note_of_its_last_step_is_not_sealed(run, tiny_images, monkeypatch):
    monkeypatch.setattr(workspace, "write_checkpoint", lambda *_, **__: None)
    with pytest.raises(LedgerFault, match="last step"):
        resume(run, tiny_images)
    assert not (run.folder / "model").exists()


def test_a_model_whose_last_interval_was_not_noted_is_not_sealed(run, tiny_images, monkeypatch):
    monkeypatch.setattr(workspace, "begin_interval", lambda run, attempt, step: run.plan.steps)
    with pytest.raises(LedgerFault, match="last step"):
        resume(run, tiny_images)


def test_an_attempt_of_an_older_version_is_billed_as_before_or_more(run, monkeypatch):
    """It noted no intervals: one checkpoint interval beyond the last checkpoint, or everything
    where it ended with a model.
    """
    begun = {"from_step": 0, "billed": 0, "salt": "", "data": "", "fingerprint": {"code": "old"}}
    notes = [{"checkpoint": 3, "attempt": 0, "sha256": "0"}]

    def entries(sort):
        bodies = {"ATTEMPT": [begun], "NOTE": notes}[sort.KIND]
        return [sort.of_body(body) for body in bodies if sort.is_in(sort.KIND, body)]

    ledger = SimpleNamespace(entries=entries)
    old = SimpleNamespace(plan=run.plan, options=run.options, ledger=ledger)
    assert attempts.reached(old, 0) == 6
    notes.append({"model": "0", "attempt": 0})
    assert attempts.reached(old, 0) == 7
    notes[:] = []
    assert attempts.reached(old, 0) == 3


def noted_instead(monkeypatch, run, attempt: Attempt) -> None:
    real = run.ledger.entries
    monkeypatch.setattr(
        "sfumato.privacy.ledger.runs.RunLedger.entries",
        lambda self, sort: [attempt] if sort is Attempt else real(sort),
    )


MACHINE = ("cpu", "processor", "device", "platform", "torch_build", "torch_switches", "environment")
OPTIONS = ("formats", "strategies", "micro_batch", "engine")
AROUND = ("code", "versions", "threads", "world_size", "machines")


@pytest.mark.parametrize("name", [*AROUND, *MACHINE, *OPTIONS])
def test_another_machine_or_way_is_a_paid_attempt(run, tiny_images, monkeypatch, name):
    """The fingerprint is taken anew: what it forgot would pass here."""
    changed = {
        "code": lambda: monkeypatch.setattr(folder, "code_version", lambda: "other"),
        "versions": lambda: monkeypatch.setattr(folder, "dependency_versions", dict),
        "threads": lambda: monkeypatch.setattr(threads, "threads", lambda asked=None: 97),
        "world_size": lambda: monkeypatch.setattr(ranks, "_place", ranks.Place(0, 2)),
        "machines": lambda: monkeypatch.setattr(ranks, "_machines", ["other"]),
    }
    if name in MACHINE:
        other = {**fingerprint.numerics(), name: "other"}
        monkeypatch.setattr(fingerprint, "numerics", lambda: other)
    elif name in OPTIONS:
        how = {**run.options["performance"], name: "other"}
        options = {**run.options, "performance": how, name: "other"}
        monkeypatch.setitem(vars(run), "fingerprint", replace(run, options=options).fingerprint)
    else:
        changed[name]()
    said = "precision" if name == "formats" else name
    with pytest.raises(SfumatoError, match=f"needs the same {said} as.*--new-attempt"):
        execute.continue_run(run, records_of(tiny_images, run), False)


def test_threads_of_every_rank_are_exchanged_and_so_part_of_it(run, tmp_path, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(
        ranks, "start", lambda describe=None: describe and told.append(describe()["threads"])
    )
    for here in (97, 98):
        monkeypatch.setattr(fingerprint, "threads", lambda asked, here=here: asked or here)
        for asked in (None, 3):
            with pytest.raises(SfumatoError, match="no such file"):
                new = {"output": tmp_path / "x", "epsilon": 1.0, "threads": asked}
                verbs.adapt(tmp_path / "none", base="glyphs", **new)
        with pytest.raises(SfumatoError, match="no such file"):
            verbs.resume(tmp_path / "none", run.folder)
    assert told == [97, 3, 97, 98, 3, 98]


def test_a_run_of_a_version_that_noted_less_is_no_free_replay(run, tiny_images, monkeypatch):
    begun = run.ledger.entries(Attempt)[0]
    less = {k: begun.fingerprint[k] for k in ("code", "versions", "precision", "engine")}
    noted_instead(monkeypatch, run, replace(begun, fingerprint=less))
    with pytest.raises(SfumatoError, match="threads.*--new-attempt"):
        execute.continue_run(run, records_of(tiny_images, run), False)


def test_a_free_replay_needs_the_grey_levels_of_its_attempt(run, tiny_images):
    """The digest of earlier versions, by which a run goes on, does not hold them."""
    records = records_of(tiny_images, run)
    assert run.data_digest(records) == run.ledger.entries(Attempt)[0].data
    other = replace(records, facts=replace(records.facts, shown=(b"x" * 32,) * records.n))
    execute.own_checkpoint(run, other)
    with pytest.raises(DataError, match="grey levels.*--new-attempt"):
        execute.continue_run(run, other, False)
    assert execute.continue_run(run, records, False).attempt == 0


def records_of(images, run):
    from sfumato.records import load_records
    from sfumato.runs import budget

    records = load_records(images)
    return records.rearranged(budget.standing(run.ledger.ledger, records.fingerprints).order)
