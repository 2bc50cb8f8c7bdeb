"""Pictures of a run while it trains, and a run that its owner ends early."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.cli import main
from sfumato.errors import LedgerFault, SfumatoError
from sfumato.methods import Inversion, Lora
from sfumato.methods.dpsgd import sample_steps
from sfumato.options import Performance, Sampling, Schedule
from sfumato.planning.prepare import default_samples_every
from sfumato.privacy.ledger.notes import CheckpointMade, Shown, Stopped
from sfumato.privacy.random.keys import RunKey
from sfumato.runs import samples
from sfumato.runs.certified import check_certificate
from sfumato.runs.folder import Run
from sfumato.runs.samples import Samples, shown_classes

TRUSTED_GRADIENTS = True


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """One code version, and one key, so that runs can be compared to the bit; quick sheets."""
    monkeypatch.setattr(samples, "Sampling", lambda: Sampling(steps=4))
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    monkeypatch.setattr(RunKey, "generate", lambda: RunKey(bytes(range(32))))
    monkeypatch.setattr(RunKey, "fresh_salt", lambda: "00" * 16)
    monkeypatch.setattr("sfumato.privacy.ledger.secret.fresh_key", lambda: bytes(32))


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies_after(step):
    def progress(now, plan):
        if now.step == step:
            raise Killed

    return progress


@pytest.fixture
def adapt(tiny_base, tiny_images, tmp_path):
    def run(name="run", every=2, checkpoints=3, **more):
        settings = {
            "epsilon": 2.0,
            "delta": 1e-2,
            "base": str(tiny_base),
            "method": Lora(rank=2),
            "expected_batch_size": 8,
            "steps": 5,
            "noise_draws": 1,
            "performance": Performance(
                micro_batch=8,
                checkpoint_steps=checkpoints,
                precision="float32",
                samples_every=every,
            ),
        }
        return verbs.adapt(
            tiny_images, output=tmp_path / name, anyway=True, yes_public=True, **settings | more
        )

    return run


def killed(adapt, step, **more):
    with pytest.raises(Killed):
        adapt(progress=dies_after(step), **more)


def weights(run):
    return load_file(run.model / "pytorch_lora_weights.safetensors")


def test_sheets_lie_in_the_run_folder_and_change_no_bit(adapt):
    said = []
    torch.manual_seed(3)
    with_them = adapt("with", on_stage=said.append)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    without = adapt("without", every=0)
    assert torch.equal(drawn, torch.rand(4))  # the caller's generator is nobody's
    sheets = sorted((with_them.folder / "samples").glob("*.png"))
    assert [s.name for s in sheets] == ["step-000002.png", "step-000004.png", "step-000005.png"]
    assert not (without.folder / "samples").exists()
    a, b = weights(with_them), weights(without)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert [line for line in said if "samples of step 4" in line] == [
        f"note: samples of step 4: {sheets[1]}"
    ]
    with Image.open(sheets[0]) as first, Image.open(sheets[2]) as last:
        assert first.size == last.size and not first.info  # no metadata
        one, two = np.asarray(first), np.asarray(last)
    base = slice(2 * samples.LINE + samples.MARGIN, 2 * samples.LINE + samples.SIDE)
    assert np.array_equal(one[base], two[base]) and one[base].std() > 0  # the public row
    below = slice(4 * samples.LINE + samples.SIDE, 3 * samples.LINE + 2 * samples.SIDE)
    assert not np.array_equal(one[below], two[below])
    notes = with_them.ledger.entries(Shown)
    assert [note.shown for note in notes] == [2, 4, 5]
    assert {n.checkpoint for n in with_them.ledger.entries(CheckpointMade)} == {2, 3, 4, 5}


def test_a_sheet_shows_the_averaged_weights_which_are_what_a_release_holds(adapt, monkeypatch):
    drawn = {}

    def draws(self, step, weights, selected):
        drawn[step] = weights
        return step

    monkeypatch.setattr(Samples, "_draw", draws)
    run = adapt()
    kept = load_file(sorted((run.folder / "checkpoints").glob("*.safetensors"))[-1])
    assert drawn[5] and all(torch.equal(kept[f"average/{n}"], t) for n, t in drawn[5].items())
    assert not all(torch.equal(kept[f"weight/{n}"], t) for n, t in drawn[5].items())


@pytest.mark.parametrize("method", ["embedding", "saliency"])
def test_every_method_with_steps_shows_some(adapt, method):
    more = {"method": method} | ({"keep": 0.5} if method == "saliency" else {})
    said = []
    run = adapt(steps=2, on_stage=said.append, **more)
    assert (run.folder / "samples" / "step-000002.png").exists(), said


def test_nothing_is_drawn_of_a_step_that_is_not_on_the_disk_and_in_the_ledger(adapt, monkeypatch):
    drawn = []
    monkeypatch.setattr(Samples, "_draw", lambda *args: drawn.append(args))
    run = adapt(every=0, checkpoints=2)
    shower = Samples(run, 0, print)
    with pytest.raises(LedgerFault, match="step 3 has no checkpoint"):
        shower.show(3, None)
    shower.show(5, None)
    newest = sorted((run.folder / "checkpoints").glob("*.safetensors"))[-1]
    facts = json.loads(newest.with_suffix(".json").read_text())
    blob = newest.read_bytes()
    newest.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(SfumatoError, match="altered"):
        shower.show(5, None)
    import hashlib

    facts["sha256"] = hashlib.sha256(newest.read_bytes()).hexdigest()
    newest.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(LedgerFault, match="step 5 has no checkpoint that the ledger knows"):
        shower.show(5, None)
    assert len(drawn) == 1 and [n.shown for n in run.ledger.entries(Shown)] == [5]


def test_the_ledger_knows_a_step_before_anybody_sees_it(adapt, monkeypatch):
    known = []

    def draws(self, step, weights, selected):
        known.append([note.shown for note in self.run.ledger.entries(Shown)])
        return step

    monkeypatch.setattr(Samples, "_draw", draws)
    adapt()
    assert known == [[2], [2, 4], [2, 4, 5]]


def test_pictures_that_fail_end_no_paid_run(adapt, monkeypatch):
    def fails(*_):
        raise RuntimeError("secret pixels")

    monkeypatch.setattr(Samples, "_draw", fails)
    said = []
    assert adapt(on_stage=said.append).model.exists()
    assert "note: no samples of step 2 (RuntimeError)" in said and "secret" not in str(said)


def test_a_step_that_was_seen_is_never_made_again_for_free(adapt, tiny_images, tmp_path):
    killed(adapt, 5, retry_fraction=1.0)
    run = Run.open(tmp_path / "run")
    for path in (run.folder / "checkpoints").glob("step-000005*"):
        path.unlink()
    with pytest.raises(SfumatoError, match="samples of step 5 were seen"):
        verbs.resume(tiny_images, run.folder)
    # paid for, it may be
    again = verbs.resume(tiny_images, run.folder, new_attempt=True)
    assert again.model.exists() and again.ledger.attempts == 2


def test_a_replay_goes_on_from_what_was_seen_and_sees_the_rest(adapt, tiny_images, tmp_path):
    whole = adapt("whole")
    killed(adapt, 4)
    said = []
    run = verbs.resume(tiny_images, tmp_path / "run", on_stage=said.append)
    assert [n.shown for n in run.ledger.entries(Shown)] == [2, 4, 5]
    a, b = weights(run), weights(whole)
    assert all(torch.equal(a[n], b[n]) for n in a)
    for step in (2, 5):
        sheets = [r.folder / "samples" / f"step-{step:06d}.png" for r in (run, whole)]
        assert len({sheet.read_bytes() for sheet in sheets}) == 1


def test_an_older_run_without_the_option_goes_on_without_samples():
    assert sample_steps(None, 90) == sample_steps(0, 90) == sample_steps(100, 90) == frozenset()
    assert sample_steps(25, 90) == {25, 50, 75, 90}


@pytest.mark.parametrize(
    ("batch", "steps", "draws", "classes", "shown"),
    [
        (64, 90, 1, 10, [25, 50, 75, 90]),
        (198, 27, 1, 10, [7, 14, 21, 27]),  # a quarter, a half, three quarters
        (64, 60, 1, 10, [15, 30, 45, 60]),
        (128, 22, 1, 10, [8, 16, 22]),  # a fourth row would take too long
        (64, 20, 1, 2, [20]),
        (16, 90, 1, 10, [90]),
        (4, 90, 1, 1, []),
        (1024, 90, 4, 100, [25, 50, 75, 90]),
        (20, 700, 1, 10, [*range(50, 701, 50)]),
        (1024, 100, 1, 10, [25, 50, 75, 100]),
    ],
)
def test_samples_come_early_and_take_little_of_the_time(batch, steps, draws, classes, shown):
    schedule = Schedule(expected_batch_size=batch, steps=steps, noise_draws=draws)
    every = default_samples_every(Performance(), schedule, classes)
    assert sorted(sample_steps(every, steps)) == shown
    row = len(shown_classes(classes)) * 10  # passes; the public base has one, too
    assert not shown or (len(shown) + 1) * row <= 0.05 * steps * 3 * batch * draws


@pytest.mark.parametrize("steps", range(1, 140))
def test_whatever_the_schedule_the_share_of_samples_holds_and_the_last_step_is_shown(steps):
    for batch, classes in ((8, 2), (40, 10), (250, 100)):
        schedule = Schedule(expected_batch_size=batch, steps=steps, noise_draws=1)
        every = default_samples_every(Performance(), schedule, classes)
        shown = sample_steps(every, steps)
        assert bool(every) == (steps in shown)
        row = len(shown_classes(classes)) * 10
        assert not shown or (len(shown) + 1) * row <= 0.05 * steps * 3 * batch


def test_an_inversion_has_nothing_to_show(adapt):
    with pytest.raises(SfumatoError, match="trains nothing, so no step before the last"):
        adapt(method=Inversion(), steps=None, noise_draws=None, expected_batch_size=None)


# Ending early.


def test_a_run_ends_where_its_owner_says(adapt, tiny_images, tmp_path):
    killed(adapt, 4)
    run = verbs.resume(tiny_images, tmp_path / "run", finish_here=True)
    assert [n.stopped for n in run.ledger.entries(Stopped)] == [4]
    assert {n.checkpoint for n in run.ledger.entries(CheckpointMade)} == {2, 3, 4}
    release = verbs.release(verbs.synthesize(run, 6, tmp_path / "out"))
    facts = json.loads((release / "privacy.json").read_text())
    assert (facts["stopped"]["step"], facts["stopped"]["of"]) == (4, 5)
    # the whole charge stays
    assert facts["mechanism"]["steps"] == facts["mechanism"]["billed_steps"] == 5
    assert facts["epsilon"] == run.plan.epsilon
    assert "Stopped by the owner at step 4 of 5" in (release / "PRIVACY.md").read_text()
    assert "Stopped by the owner at step 4 of 5" in (release / "report.html").read_text()
    report = verbs.verify(release)
    assert report.ok and ("stopped", True) in [check[:2] for check in report.checks]
    assert check_certificate(run.ledger.ledger, release / "privacy.json")


@pytest.mark.parametrize("change", [{"step": 3}, None])
def test_a_certificate_that_hides_the_stop_is_refused(adapt, tiny_images, tmp_path, change):
    killed(adapt, 4)
    run = verbs.resume(tiny_images, tmp_path / "run", finish_here=True)
    release = verbs.release(verbs.synthesize(run, 3, tmp_path / "out"))
    facts = json.loads((release / "privacy.json").read_text())
    if change is None:
        del facts["stopped"]
    else:
        facts["stopped"] |= change
    (release / "privacy.json").write_text(json.dumps(facts))
    with pytest.raises(LedgerFault, match="another step of stopping"):
        check_certificate(run.ledger.ledger, release / "privacy.json")
    if change is not None:
        rows = {name: passed for name, passed, _ in verbs.verify(release).checks}
        assert not rows["stopped"]


def test_a_stopped_run_never_trains_on(adapt, tiny_images, tmp_path, monkeypatch):
    killed(adapt, 4, retry_fraction=1.0)
    folder = tmp_path / "run"

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("sfumato.runs.ending.save_model", dies)
        verbs.resume(tiny_images, folder, finish_here=True)
    for new_attempt in (False, True):
        with pytest.raises(SfumatoError, match="stopped this run at step 4.*--finish-here"):
            verbs.resume(tiny_images, folder, new_attempt=new_attempt)
    kept = shutil.copytree(folder / "checkpoints", tmp_path / "kept")
    for path in (folder / "checkpoints").glob("step-000004*"):
        path.unlink()
    with pytest.raises(SfumatoError, match="stopped at step 4, and its checkpoint is gone"):
        verbs.resume(tiny_images, folder, finish_here=True)
    shutil.copytree(kept, folder / "checkpoints", dirs_exist_ok=True)
    run = verbs.resume(tiny_images, folder, finish_here=True)
    assert run.model.exists() and len(run.ledger.entries(Stopped)) == 1


def test_what_cannot_be_finished_is_refused_by_name(adapt, tiny_images, tmp_path, capsys):
    words = ["adapt", str(tiny_images), "-o", str(tmp_path / "run"), "--finish-here"]
    assert main([*words, "--epsilon", "1", "--base", "icons"]) == 2
    assert "--finish-here requires --resume" in capsys.readouterr().err
    killed(adapt, 1)
    folder = tmp_path / "run"
    with pytest.raises(SfumatoError, match="no checkpoint to finish at"):
        verbs.resume(tiny_images, folder, finish_here=True)
    with pytest.raises(SfumatoError, match="give one of them"):
        verbs.resume(tiny_images, folder, finish_here=True, new_attempt=True)
    with pytest.raises(Killed):
        verbs.resume(tiny_images, folder, progress=dies_after(5))
    with pytest.raises(SfumatoError, match="all steps of this run are done"):
        verbs.resume(tiny_images, folder, finish_here=True)
    assert not Run.open(folder).ledger.entries(Stopped)


def test_a_run_that_trained_to_its_end_is_never_called_stopped(adapt, tiny_images, tmp_path):
    run = adapt(checkpoints=2)
    release = verbs.release(verbs.synthesize(run, 3, tmp_path / "out", keep_key=True))
    run.model.rename(tmp_path / "model")
    for path in (run.folder / "checkpoints").glob("step-000005*"):
        path.unlink()
    with pytest.raises(SfumatoError, match="knows a finished model"):
        verbs.resume(tiny_images, run.folder, finish_here=True)
    assert not run.ledger.entries(Stopped)
    assert check_certificate(run.ledger.ledger, release / "privacy.json")


def test_a_run_that_is_to_end_never_trains_on_for_a_stray_flag(
    adapt, tiny_images, tmp_path, capsys
):
    killed(adapt, 4)
    words = ["adapt", str(tiny_images), "-o", str(tmp_path / "run"), "--resume", "--finish-here"]
    assert main([*words, "--method", "attention"]) == 2
    assert "--method does not go with --resume" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()
    assert main(words) == 0
    assert [n.stopped for n in Run.open(tmp_path / "run").ledger.entries(Stopped)] == [4]


def test_an_inversion_cannot_be_finished_early(tiny_base, tiny_images, tmp_path):
    def dies_inverting(line):
        if "inverting" in line:
            raise Killed

    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            output=tmp_path / "run",
            epsilon=2.0,
            delta=1e-2,
            base=str(tiny_base),
            method=Inversion(inversion_steps=1),
            anyway=True,
            yes_public=True,
            on_stage=dies_inverting,
        )
    with pytest.raises(SfumatoError, match="trains no model that an earlier step could leave"):
        verbs.resume(tiny_images, tmp_path / "run", finish_here=True)
