"""The number format of each stage: timed once on dummy data, kept by the run, used everywhere."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.compute import measure
from sfumato.compute.measure import Trial
from sfumato.compute.precision import STAGES, Formats
from sfumato.errors import SfumatoError
from sfumato.gradients import Engine, Ratios
from sfumato.methods import METHODS, Lora, dpsgd, formats
from sfumato.options import Performance
from sfumato.planning.estimate import fit_to_machine
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.runs.folder import Run
from sfumato.runs.prepared import opened, rebuild

BF16, F32 = "bfloat16", "float32"
MIXED = {"encode": F32, "train": BF16, "sample": BF16, "decode": F32}


def planted(monkeypatch, said):
    """A machine on which `said[stage]` is quicker; returns the stages that were timed."""
    asked = []

    def trial(stage):
        asked.append(stage)
        quick = said[stage] == BF16
        return Trial(2.0 if quick else 1.0, 1.0 if quick else 2.0, 4)

    monkeypatch.setenv(measure.OPT_OUT, "1")
    monkeypatch.setattr(formats, "_of_training", lambda prepared: trial("train"))
    monkeypatch.setattr(formats, "_of_base", lambda base, prompts, stage: trial(stage))
    return asked


def ready(base, precision="auto", **more):
    facts = PublicFacts(n_units=24, classes=("circle", "cross"))
    more = {"epsilon": 4.0, "delta": 1e-2, "steps": 2, "expected_batch_size": 8} | more
    performance = Performance(precision=precision, micro_batch=8)
    return prepare(facts, task_of(base=str(base), performance=performance, **more)[2])


def test_each_stage_takes_its_own_quicker_format(tiny_base, monkeypatch):
    asked = planted(monkeypatch, MIXED)
    made = fit_to_machine(ready(tiny_base))
    assert made.options["formats"] == MIXED | {"invert": F32}
    assert made.base.formats == Formats(train=torch.bfloat16, sample=torch.bfloat16)
    assert asked == ["encode", "train", "sample", "decode"]
    fit_to_machine(made)
    assert len(asked) == 4  # once


@pytest.mark.parametrize("precision", [F32, BF16])
def test_what_was_asked_for_is_not_timed(tiny_base, monkeypatch, precision):
    asked = planted(monkeypatch, MIXED)
    made = ready(tiny_base, precision)
    assert made.base.formats == Formats.everywhere(precision)
    assert fit_to_machine(made).options["formats"] == dict.fromkeys(STAGES, precision)
    assert not asked
    compared = fit_to_machine(made, compared=True)  # as `plan` does
    assert compared.options["formats"] == dict.fromkeys(STAGES, precision) and len(asked) == 4


def test_without_measuring_auto_is_float32(tiny_base, monkeypatch):
    planted(monkeypatch, MIXED)
    monkeypatch.setenv(measure.OPT_OUT, "0")
    made = fit_to_machine(ready(tiny_base), compared=True)
    assert made.options["formats"] == Formats().names and not made.trials


def test_an_inversion_times_what_it_does(tiny_base, monkeypatch):
    asked = planted(monkeypatch, MIXED | {"invert": BF16})
    given = {"method": "inversion", "prompt": "a {class}", "steps": None}
    made = fit_to_machine(ready(tiny_base, expected_batch_size=None, **given))
    assert asked == ["encode", "invert", "sample", "decode"]
    assert made.adaptation.inverter.base.formats.invert is torch.bfloat16


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_timed_in_both_formats(tiny_base, monkeypatch, stage):
    """And its passes are computed in the format that they are timed in."""
    monkeypatch.setattr(measure, "WORTH", 0.0)
    made, seen = ready(tiny_base), []
    real = torch.autocast.__enter__
    monkeypatch.setattr(
        torch.autocast, "__enter__", lambda self: (seen.append(self._enabled), real(self))[1]
    )
    before = made.base.formats
    if stage == "train":
        found = formats._of_training(made)
    else:
        found = formats._of_base(made.base, made.plan.prompts, stage)
    assert found.float32 > 0 and found.bfloat16 > 0 and made.base.formats == before
    assert seen[0] is False and set(seen) == {False, True}


def test_a_base_computes_each_stage_in_its_format(tiny_base, monkeypatch):
    base, seen = load_base(tiny_base), {}
    images = np.zeros((2, base.resolution, base.resolution, 3), np.uint8)
    time, text = torch.tensor(5), base.condition(["a", "b"])
    latents = base.encode(images)[0]
    convs = {
        "encode": base.vae.encoder.conv_in,
        "sample": base.unet.conv_in,
        "decode": base.vae.decoder.conv_in,
    }
    for stage, conv in convs.items():
        conv.register_forward_hook(lambda m, x, out, stage=stage: seen.update({stage: out.dtype}))
    for dtype in (torch.bfloat16, torch.float32):
        for stage in convs:
            base.formats = Formats(**{stage: dtype})
            base.encode(images)
            base.decode(latents)
            base.unet.conv_in.register_forward_hook(
                lambda m, x, out: seen.update({"sample": out.dtype})
            )
            base.make_denoise()(latents, time, text, {})
            assert seen[stage] is dtype
            others = {other for other in convs if other != stage}
            assert all(seen[other] is torch.float32 for other in others)


def test_the_losses_follow_the_base(tiny_base):
    made = ready(tiny_base)
    from sfumato.training.dummy import dummy_batch

    batch = dummy_batch(made, 2)
    exact = made.adaptation.exact_losses(batch)
    assert torch.equal(made.adaptation.row_losses(batch), exact)
    made.base.formats = Formats(train=torch.bfloat16)
    assert not torch.equal(made.adaptation.row_losses(batch), exact)
    assert torch.equal(made.adaptation.exact_losses(batch), exact)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"formats": Formats(sample=torch.bfloat16).names}, Formats(sample=torch.bfloat16)),
        # as versions before this one ran
        ({"performance": {"precision": BF16}}, Formats.everywhere(BF16)),
        (
            {"performance": {"precision": F32}},
            Formats(encode=torch.bfloat16, sample=torch.bfloat16, decode=torch.bfloat16),
        ),
        ({"performance": {"precision": "auto"}}, Formats()),
    ],
)
def test_a_run_keeps_its_formats(options, expected):
    assert formats.kept_formats(options) == expected


class Killed(BaseException):
    """Stands for a death between two steps."""


def dies(now, plan):
    raise Killed


@pytest.fixture
def died(tiny_images, tiny_base, tmp_path, monkeypatch):
    """A run that died after its first step, on a machine where bfloat16 trains quicker."""
    monkeypatch.setattr("sfumato.runs.folder.code_version", lambda: "0+test")
    planted(monkeypatch, MIXED)
    monkeypatch.setattr(dpsgd, "ratios_here", lambda: Ratios(linear=1e9, small=0))
    with pytest.raises(Killed):
        verbs.adapt(
            tiny_images,
            output=tmp_path / "run",
            ledger=tmp_path / "book" / "ledger.sqlite",
            anyway=True,
            yes_public=True,
            epsilon=4.0,
            delta=1e-2,
            base=str(tiny_base),
            method=Lora(rank=2),
            expected_batch_size=8,
            steps=3,
            retry_fraction=1.0,
            progress=dies,
            performance=Performance(micro_batch=8, checkpoint_steps=1, samples_every=0),
        )
    return Run.open(tmp_path / "run")


def copied(run, folder):
    book = shutil.copytree(run.ledger_path.parent, folder / "book")
    return Run.open(shutil.copytree(run.folder, folder / "run"), book / run.ledger_path.name)


def test_a_resume_keeps_what_was_chosen_whatever_is_measured_later(
    died, tiny_images, tmp_path, monkeypatch
):
    """The same bits on a machine that would now choose otherwise."""
    assert died.options["formats"] == MIXED | {"invert": F32}
    finished = []
    for name, said in (("same", MIXED), ("other", dict.fromkeys(MIXED, F32))):
        asked = planted(monkeypatch, said)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / name))  # a machine of its own
        own = copied(died, tmp_path / name)
        verbs.resume(tiny_images, own.folder, ledger=own.ledger_path)
        assert not asked
        finished.append(load_file(own.model / "pytorch_lora_weights.safetensors"))
    assert finished[0].keys() == finished[1].keys() and finished[0]
    assert all(torch.equal(finished[0][name], finished[1][name]) for name in finished[0])
    prepared = rebuild(died.plan, died.options)
    assert prepared.base.formats.train is torch.bfloat16
    model = tmp_path / "same" / "run" / "model"
    assert opened(died, model).formats == prepared.base.formats


def test_another_format_is_a_paid_attempt(died, tiny_images, monkeypatch):
    """As it was: a sum in another format under the noise of the first would be a second answer."""
    other = {**died.fingerprint, "precision": Formats().names}
    monkeypatch.setattr(Run, "fingerprint", property(lambda self: other))
    with pytest.raises(SfumatoError, match=r"precision.*--new-attempt"):
        verbs.resume(tiny_images, died.folder, ledger=died.ledger_path)
    with pytest.raises(Killed):
        verbs.resume(
            tiny_images, died.folder, ledger=died.ledger_path, new_attempt=True, progress=dies
        )
    assert [row["billed"] for row in died.ledger.bodies("ATTEMPT")] == [0, 0]


def test_a_plan_says_what_the_other_format_would_cost(tiny_images, tiny_base, monkeypatch):
    planted(monkeypatch, MIXED)
    said = {"epsilon": 4.0, "delta": 1e-2, "base": str(tiny_base), "steps": 2, "micro_batch": 8}
    report = verbs.plan(tiny_images, yes_public=True, **said)
    assert report.formats["train"] == BF16
    assert {stage: trial.quicker for stage, trial in report.trials.items()} == MIXED
    from sfumato.cli.plan import sections

    rows = dict(row for _, rows in sections(report) for row in rows)
    assert "train in bfloat16 (float32: 2.00 times as long)" in rows["precision"]
    assert "encode in float32 (bfloat16: 2.00 times as long)" in rows["precision"]


def test_every_method_names_stages_that_there_are():
    for kind in METHODS.values():
        assert set(kind.stages) <= set(STAGES) and "encode" in kind.stages


def test_a_resume_keeps_the_ways_whatever_is_measured_later(
    died, tiny_images, tmp_path, monkeypatch
):
    """How each weight's norms are computed stands in the run: another way rounds otherwise."""
    ways = died.options["ways"]
    assert ways and set(ways.values()) == {"ghost"}  # as `ratios` of the fixture says
    seen = []
    real = Engine.close

    def close(self):
        seen.append(dict(self.strategies))
        real(self)

    monkeypatch.setattr(Engine, "close", close)
    monkeypatch.setattr(dpsgd, "ratios_here", lambda: Ratios(small=2**30))
    verbs.resume(tiny_images, died.folder, ledger=died.ledger_path)
    assert [found for found in seen if found][-1] == ways
    assert fit_to_machine(rebuild(died.plan, died.options)).options["ways"] == ways


def test_a_new_run_takes_the_constants_of_this_machine(tiny_base, monkeypatch):
    monkeypatch.setattr(dpsgd, "ratios_here", lambda: Ratios(small=2**30))
    assert set(fit_to_machine(ready(tiny_base)).options["ways"].values()) == {"keep"}


def test_the_constants_are_measured_where_measuring_is_on(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(dpsgd, "measure_ratios", lambda *_: Ratios(7.0, 8.0, 9))
    assert dpsgd.ratios_here() == Ratios()
    monkeypatch.setenv(measure.OPT_OUT, "1")
    assert dpsgd.ratios_here() == Ratios(7.0, 8.0, 9)
    monkeypatch.setattr(dpsgd, "measure_ratios", lambda *_: Ratios(1.0, 1.0, 1))
    assert dpsgd.ratios_here() == Ratios(7.0, 8.0, 9)


def test_the_formats_belong_to_the_fingerprint(died):
    assert died.fingerprint["precision"] == MIXED | {"invert": F32}
    before = replace(died, options={k: v for k, v in died.options.items() if k != "formats"})
    assert before.fingerprint["precision"] == "auto"  # as versions wrote it that chose none


def test_tokens_that_no_tokenizer_knows_yet_are_timed_as_what_they_start_from(
    tiny_base, monkeypatch
):
    """The name of a token alone would be longer than the 8 tokens of this base."""
    asked = ready(
        tiny_base, method="inversion", steps=None, expected_batch_size=None, prompt="a {class}"
    )
    monkeypatch.setenv(measure.OPT_OUT, "1")
    told = []
    monkeypatch.setattr(
        formats, "_of_base", lambda base, prompts, stage: told.append(base.condition(prompts))
    )
    trials = dict.fromkeys(asked.method.stages)
    assert formats._trials(asked, asked.method.stages).keys() == trials.keys()
    assert len(told) == len(trials)
