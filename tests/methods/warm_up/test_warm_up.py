"""A warm-up end to end on a tiny base: one run to a release, resume, new attempts, and refusals."""

from __future__ import annotations

import importlib
import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from sfumato import verbs
from sfumato.auditing import on_run
from sfumato.errors import Interrupted, SfumatoError
from sfumato.methods import Full, Lora
from sfumato.methods.warm_up.method import FROM_NOTHING, STEPS
from sfumato.options.progress import Counted
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.published import published
from sfumato.planning.task import task_of
from sfumato.privacy import accounting
from sfumato.privacy.ledger.faults import LedgerError
from sfumato.privacy.ledger.notes import CheckpointMade, Interval, MomentsMade
from sfumato.runs.folder import Run

torch.set_num_threads(1)
warming = importlib.import_module("sfumato.methods.warm_up.fit")
dpsgd = importlib.import_module("sfumato.methods.dpsgd")
WARM = {"warm_up": "means", "warm_up_steps": 3, "warm_up_size": 2}
SCHEDULE = {"steps": 2, "expected_batch_size": 8, "noise_draws": 1, "samples_every": 0}


@pytest.fixture(autouse=True)
def steady_ground(monkeypatch):
    monkeypatch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
    monkeypatch.setattr(accounting, "PLANNING_GRID", 1e-2)
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")


def adapt(images, base, output, method=None, **changes):
    method = method or Full(**WARM)
    options = {"epsilon": 8.0, "delta": 1e-3, "method": method, "base": str(base)}
    more = {"anyway": True, "yes_public": True, "ledger": output.parent / "ledger.sqlite"}
    return verbs.adapt(images, output=output, **options | more | SCHEDULE | changes)


@pytest.fixture(scope="module")
def run(tiny_base, tiny_images, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "CERTIFICATE_GRID", 1e-2)
        patch.setattr(accounting, "PLANNING_GRID", 1e-2)
        patch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
        folder = tmp_path_factory.mktemp("warm")
        return adapt(tiny_images, tiny_base, folder / "run")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.model / "unet" / "diffusion_pytorch_model.safetensors")


def test_a_run_becomes_a_verified_release(run, tmp_path):
    plan = run.plan
    own = plan.moments
    assert (own.classes, own.numbers, own.rounds) == (3, 16, 2) and own.divisors == (8.0,) * 3
    assert [type(e).__name__ for e in plan.events] == ["Gaussian", "PoissonGaussian"]
    assert plan.events[0].count == 2
    verbs.synthesize(run, 6, tmp_path / "pictures", keep_key=True, controls=False, class_moments=20)
    verbs.release(tmp_path / "pictures")
    assert verbs.verify(tmp_path / "pictures").ok
    facts = json.loads((tmp_path / "pictures" / "privacy.json").read_text())
    (query,) = facts["mechanism"]["one_shot"]
    assert query["name"] == "class moments" and query["count"] == 2
    assert query["noise_stddev"] >= own.noise_multiplier
    said = (tmp_path / "pictures" / "PRIVACY.md").read_text()
    assert "class moments" in said


def test_the_ledger_knows_the_moments_before_a_step_and_the_checkpoint_after_them(run):
    made = run.ledger.entries(MomentsMade)
    assert [one.attempt for one in made] == [0] and run.moments == made[0].moments
    kinds = [
        type_
        for row in run.ledger.rows
        for type_ in (MomentsMade, CheckpointMade, Interval)
        if type_.is_in(row.kind, row.body)
    ]
    assert kinds == [MomentsMade, CheckpointMade, Interval, CheckpointMade]
    assert [c.checkpoint for c in run.ledger.entries(CheckpointMade)] == [0, 2]
    with pytest.raises(LedgerError, match="same noise"):
        run.ledger.enter(MomentsMade(moments="another", attempt=0))


@pytest.mark.slow
def test_a_run_is_audited_with_its_moments(run):
    found = []
    on_run.audit_run(run, on_finding=found.append, names=["M1", "H"])
    named = {f.subject for f in found}
    assert any("class moments" in name for name in named) and all(f.passed for f in found)


def test_what_was_warmed_up_moved_before_the_first_step(run, tiny_base):
    from sfumato.bases import load_base

    kept = safetensors.torch.load_file(run.folder / "checkpoints" / "step-000000.safetensors")
    before = dict(load_base(tiny_base).unet.named_parameters())
    moved = [not torch.equal(kept[f"weight/unet.{name}"], p.detach()) for name, p in before.items()]
    assert all(moved) and not any(name.startswith("exp_avg") for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["released", "warmed"])
def test_a_resume_asks_nothing_twice(tiny_images, tiny_base, tmp_path, monkeypatch, where):
    asked = []
    release = warming.release

    def watched(*given):
        asked.append(1)
        return release(*given)

    def dies(*given, **more):
        raise Interrupted("stopped")

    monkeypatch.setattr(warming, "release", watched)
    if where == "released":
        monkeypatch.setattr(warming, "train_on", dies)
    else:
        monkeypatch.setattr(dpsgd, "train", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run")
    noisy = (tmp_path / "run" / warming.FILE).read_bytes()
    monkeypatch.undo()
    steady = pytest.MonkeyPatch()
    steady.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    steady.setattr(warming, "release", watched)
    again = verbs.resume(tiny_images, tmp_path / "run")
    steady.undo()
    assert asked == [1] and (again.folder / warming.FILE).read_bytes() == noisy
    assert again.ledger.attempts == 1 and len(again.ledger.entries(MomentsMade)) == 1


def test_a_death_before_the_file_gives_the_same_noise_again(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    write = warming.write_file

    def dies(path, blob):
        raise Interrupted("stopped")

    monkeypatch.setattr(warming, "write_file", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run", retry_fraction=0.5)
    monkeypatch.setattr(warming, "write_file", write)
    # a new attempt has other noise, which nobody paid for
    with pytest.raises(SfumatoError, match="are gone"):
        verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)


def test_a_signal_stops_the_plain_steps_and_says_how_to_go_on(tiny_images, tiny_base, tmp_path):
    def told(line):
        if "warming up" in str(line):
            signal.raise_signal(signal.SIGINT)

    method = Full(**WARM | {"warm_up_steps": 50})
    with pytest.raises(Interrupted, match="at step 1 of 50 of the warm-up; continue with --resume"):
        adapt(tiny_images, tiny_base, tmp_path / "run", method, on_stage=told)
    stopped = Run.open(tmp_path / "run")
    assert stopped.moments and not stopped.ledger.entries(CheckpointMade)


@pytest.mark.parametrize(
    ("stage", "name"),
    [("encoding the images", signal.SIGTERM), ("adding up class moments", signal.SIGINT)],
)
def test_a_signal_before_the_first_step_says_how_to_go_on(
    stage, name, tiny_images, tiny_base, tmp_path
):
    """Both come from where images are gone through, in the run's own part of the code."""

    def told(line):
        if isinstance(line, Counted) and stage in str(line):
            signal.raise_signal(name)

    before, folder = signal.getsignal(name), tmp_path / "run"
    with pytest.raises(Interrupted, match="continue with --resume") as caught:
        adapt(tiny_images, tiny_base, folder, on_stage=told)
    assert caught.value.exit_code == 75 and signal.getsignal(name) is before
    assert "The run stopped" in (folder / "progress.html").read_text()
    stopped = Run.open(folder)
    assert stopped.ledger.attempts == 1 and not stopped.moments
    assert verbs.resume(tiny_images, folder).model.exists()


@pytest.mark.slow
def test_a_new_attempt_takes_the_kept_moments(tiny_images, tiny_base, tmp_path, monkeypatch):
    train = dpsgd.train

    def dies(*given, **more):
        raise Interrupted("stopped")

    monkeypatch.setattr(dpsgd, "train", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run", retry_fraction=1.0)
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    monkeypatch.setattr(dpsgd, "train", train)
    asked = []
    monkeypatch.setattr(warming, "release", lambda *given: asked.append(1))
    again = verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)
    assert not asked and len(again.ledger.entries(MomentsMade)) == 1
    assert again.ledger.attempts == 2


def test_a_retry_before_the_moments_were_noted_is_refused(
    tiny_images, tiny_base, tmp_path, monkeypatch
):
    def dies(*given, **more):
        raise Interrupted("stopped")

    monkeypatch.setattr(warming, "release", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run", retry_fraction=0.5)
    monkeypatch.undo()
    with pytest.raises(SfumatoError, match="before its class moments were noted"):
        verbs.resume(tiny_images, tmp_path / "run", new_attempt=True)


@pytest.mark.slow
def test_altered_moments_are_not_believed(tiny_images, tiny_base, tmp_path, monkeypatch):
    def dies(*given, **more):
        raise Interrupted("stopped")

    monkeypatch.setattr(warming, "train_on", dies)
    with pytest.raises(Interrupted):
        adapt(tiny_images, tiny_base, tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    place = tmp_path / "run" / warming.FILE
    own = safetensors.numpy.load(place.read_bytes())
    place.write_bytes(safetensors.numpy.save({k: v * 0 for k, v in own.items()}))
    again = verbs.resume(tiny_images, tmp_path / "run")  # the same noise, computed again
    held = safetensors.numpy.load((again.folder / warming.FILE).read_bytes())
    assert all(np.array_equal(held[name], own[name]) for name in own)


def test_the_warm_up_is_a_function_of_noisy_numbers_alone(run, tmp_path):
    """Trained again from the released numbers and the public seed, without an image."""
    from sfumato.methods.warm_up.pictures import pictures_of
    from sfumato.runs.prepared import rebuild

    prepared = rebuild(run.plan, run.options, None, run.start)
    own = safetensors.numpy.load((run.folder / warming.FILE).read_bytes())
    noisy = [own["round0"], own["round1"]]
    shape = prepared.base.latent_shape

    class Nobody:
        def on_stage(self, line):
            pass

    warming.train_on(prepared, pictures_of(run.plan.moments, noisy, shape, 2), 3, Nobody())
    kept = safetensors.torch.load_file(run.folder / "checkpoints" / "step-000000.safetensors")
    for name, p in prepared.adaptation.trainable.items():
        assert torch.allclose(kept[f"weight/{name}"], p.detach(), atol=1e-6), name


def test_a_pass_has_no_more_rows_than_training_was_found_to_hold(run):
    """The charge is made by then: a pass that does not fit would lose it. Steps are the same."""
    from sfumato.methods.warm_up.pictures import pictures_of
    from sfumato.runs.prepared import rebuild

    own = safetensors.numpy.load((run.folder / warming.FILE).read_bytes())
    noisy = [own["round0"], own["round1"]]
    met, learnt = [], []
    for units in (64, 20):
        prepared = rebuild(run.plan, run.options, None, run.start)
        how = replace(prepared.performance, micro_batch=units)
        losses = prepared.adaptation.row_losses

        def counted(batch, losses=losses):
            met.append(len(batch))
            return losses(batch)

        adaptation = replace(prepared.adaptation, row_losses=counted)
        prepared = replace(prepared, performance=how, adaptation=adaptation)
        pictures = pictures_of(run.plan.moments, noisy, prepared.base.latent_shape, 2)
        warming.train_on(prepared, pictures, 1, SimpleNamespace(on_stage=lambda line: None))
        assert all(p.grad is None for p in adaptation.trainable.values())
        learnt.append(torch.cat([p.detach().flatten() for p in adaptation.trainable.values()]))
    assert met == [64, 20, 20, 20, 4]
    assert torch.allclose(*learnt, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "changes", "match"),
    [
        (Full(warm_up_steps=7), {}, "--warm-up-steps goes with --warm-up means"),
        (Full(warm_up="means", warm_up_size=64), {"buckets": "16x16,16x8"}, "--buckets"),
    ],
)
def test_refusals_come_before_a_charge(tiny_images, tiny_base, tmp_path, method, changes, match):
    with pytest.raises(SfumatoError, match=match):
        adapt(tiny_images, tiny_base, tmp_path / "run", method, **changes)
    assert not (tmp_path / "run").exists()


def test_too_few_units_and_too_many_numbers_are_refused(tiny_base):
    from sfumato.bases import load_base
    from sfumato.methods import Given, Prompts

    classes = ("circle", "cross", "square")
    adapted = Full().apply(load_base(tiny_base), Given(Prompts(classes)))
    with pytest.raises(SfumatoError, match="2 units are fewer than the 3 classes"):
        Full(**WARM).moments(adapted, 2)
    base = SimpleNamespace(latent_shape=(3, 32, 32), buckets=(), resolution=32)
    large = SimpleNamespace(base=base, classes=3)
    with pytest.raises(SfumatoError, match="from 1 to 1024; give a smaller --warm-up-size"):
        Full(warm_up="means", warm_up_size=32).moments(large, 9)
    assert Full(warm_up="means").moments(large, 9).numbers == 3 * 9 * 9  # 256 at most
    assert Full(warm_up="means").moments(adapted, 9).numbers == 256
    assert Full(**WARM).moments(adapted, 9).divisors == (3.0,) * 3


def test_small_pictures_are_as_large_as_is_published(tiny_base):
    """Asked for larger than what the denoiser sees: both are of its size."""
    facts = PublicFacts(24, ("circle", "cross", "square"))
    for asked, size in ((300, 8), (2, 2), (None, None)):
        task = task_of(
            base=str(tiny_base), method=Full(**WARM | {"warm_up_size": asked}), epsilon=8.0,
            delta=1e-2, **SCHEDULE,
        )[2]  # fmt: skip
        made = prepare(facts, task)
        assert made.options["method_options"].get("warm_up_size") == size
        settings = dict(published(made))["settings"]
        assert settings.count("warm_up_size") == (size is not None)
        assert size is None or f"warm_up_size {size}," in settings
        assert made.plan.moments.numbers == 4 * (size or 8) ** 2


@pytest.mark.parametrize(
    ("base", "asked", "steps"),
    [("tiny", None, STEPS), ("none:8x8x1", None, FROM_NOTHING), ("none:8x8x1", 7, 7)],
)
def test_random_numbers_are_warmed_up_longer(tiny_base, base, asked, steps):
    """And what is done is kept, published, and part of the estimate of the time."""
    facts = PublicFacts(24, ("circle", "cross", "square"))
    task = task_of(
        base=str(tiny_base) if base == "tiny" else base,
        method=Full(**WARM | {"warm_up_steps": asked}), epsilon=8.0, delta=1e-2, **SCHEDULE,
    )[2]  # fmt: skip
    made = prepare(facts, task)
    assert made.options["method_options"]["warm_up_steps"] == steps
    assert f"warm_up_steps {steps}" in dict(published(made))["settings"]
    assert made.method._passes(made.base) == 64 * steps


def test_methods_without_a_warm_up_do_not_take_the_option(tiny_images, tiny_base, tmp_path):
    for method in ("inversion", "embedding", "evolution", "saliency", "loda"):
        with pytest.raises(SfumatoError, match=r"warm.up"):
            adapt(tiny_images, tiny_base, tmp_path / "run", method, warm_up="means")


@pytest.mark.slow
def test_one_class_has_an_overall_mean(tiny_images, tiny_base, tmp_path):
    made = adapt(
        tiny_images, tiny_base, tmp_path / "run", Lora(rank=2, **WARM), unlabelled=True,
        prompt="circle",
    )  # fmt: skip
    assert made.plan.moments.classes == 1 and made.plan.moments.divisors == (24.0,)


def test_random_numbers_are_for_the_method_that_trains_all_of_them(tiny_images, tmp_path):
    with pytest.raises(SfumatoError, match="take --method full"):
        adapt(tiny_images, "none:16x16x3", tmp_path / "run", "attention")
    with pytest.raises(SfumatoError, match="SIDExSIDExCHANNELS"):
        adapt(tiny_images, "none:15x15x3", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_public_model_a_release_says_so_and_opens_in_plain_diffusers(
    tiny_images, tmp_path
):
    from diffusers import DDPMPipeline

    lines = []
    run = adapt(tiny_images, "none:16x16x3", tmp_path / "run", on_stage=lines.append)
    assert any("no public model" in str(line) and "none:28x28x1" in str(line) for line in lines)
    verbs.export(run, tmp_path / "model")
    verbs.synthesize(run, 3, tmp_path / "pictures", controls=False)
    (tmp_path / "prompts.csv").write_text("prompt,label\ncircle,circle\n")
    verbs.synthesize(run, None, tmp_path / "told", prompts=tmp_path / "prompts.csv", keep_key=True)
    (row,) = (tmp_path / "told" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(row)["prompt"] == "<circle>"
    verbs.release(tmp_path / "pictures")
    facts = json.loads((tmp_path / "pictures" / "privacy.json").read_text())
    assert facts["conditions"]["base"] == "none:16x16x3"
    assert "no public model" in facts["conditions"]["base_data"]
    assert not any("public base model" in line for line in facts["conditions"]["not_covered"])
    assert "no public model was used" in (tmp_path / "pictures" / "report.html").read_text()
    pipe = DDPMPipeline.from_pretrained(tmp_path / "model" / "model")
    # a null class, one of no picture, and one for each class
    assert pipe.unet.config.num_class_embeds == 5
