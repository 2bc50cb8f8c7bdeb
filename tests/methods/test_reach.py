"""Tensors that nothing can teach are left out by the plan, named, and stay out on a resume."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.bases import FAMILIES, Base, load_base
from sfumato.errors import Interrupted
from sfumato.methods import Given, Prompts, Saliency, reach
from sfumato.methods.prepared import prepare_again
from sfumato.planning import prepare as planning
from sfumato.planning.facts import PublicFacts
from sfumato.planning.prepare import prepare
from sfumato.planning.task import task_of
from sfumato.runs.folder import Run

OPTIONS = {
    "epsilon": 8.0,
    "delta": 1e-2,
    "steps": 2,
    "expected_batch_size": 8,
    "allow_large_delta": True,
}


@pytest.fixture
def pixels(monkeypatch, tmp_path):
    """A UNet2DModel on pixels, whose keys have biases: their gradient is zero under a softmax."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    monkeypatch.setitem(FAMILIES, "DDPMPipeline", None)
    example = Path(__file__).parents[2] / "examples" / "family.py"
    family = runpy.run_path(str(example))["PixelDiffusion"]
    monkeypatch.setattr(family, "learnable", Base.learnable)  # which the example has filtered
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=8,
        )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "base", safe_serialization=True)
    return tmp_path / "base"


def biases(folder) -> set[str]:
    denoiser = load_base(folder).denoiser
    return {f"unet.{n}" for n, _ in denoiser.named_parameters() if n.endswith("to_k.bias")}


def dying(progress, plan):
    if progress.step == 1:
        raise KeyboardInterrupt


def test_left_out_named_and_the_same_on_a_resume(pixels, tiny_images, tmp_path, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, path in enumerate(sorted(tiny_images.rglob("*.png"))):
        (pictures / f"{number:03d}.png").write_bytes(path.read_bytes())
    data = {"base": str(pixels), "method": "full", "unlabelled": True, **OPTIONS}
    dead = biases(pixels)
    assert len(dead) == 4
    planned = sfumato.plan(pictures, **data)
    named = [line for line in planned.remarks if "get no gradient" in line]
    assert len(named) == 1 and named[0].startswith("4 of ") and min(dead) in named[0]
    every = sum(p.numel() for p in load_base(pixels).denoiser.parameters())
    assert planned.plan.trainable == every - 4 * 16

    folder = tmp_path / "run"
    how = sfumato.Performance(checkpoint_steps=1)
    with pytest.raises(Interrupted):
        sfumato.adapt(
            pictures,
            output=folder,
            anyway=True,
            yes_public=True,
            progress=dying,
            performance=how,
            **data,
        )
    assert set(Run.open(folder).options["left_out"]) == dead
    # the list is the run's: it is not found again, where rounding may say something else
    monkeypatch.setattr(planning, "left_out", lambda *_: pytest.fail("found again"))
    monkeypatch.setattr(reach, "unreached", lambda *_: pytest.fail("found again"))
    run = sfumato.adapt(pictures, output=folder, resume=True)
    before, after = (dict(load_base(f).denoiser.named_parameters()) for f in (pixels, run.model))
    # saved in half precision
    moved = {f"unet.{n}" for n, p in before.items() if not torch.equal(p.half().float(), after[n])}
    assert moved == {f"unet.{n}" for n in before} - dead


def test_the_list_is_kept_and_applied_again(whole_tiny_base, monkeypatch):
    every = [f"unet.{n}" for n, _ in load_base(str(whole_tiny_base)).denoiser.named_parameters()]
    out = (every[3], every[8])
    monkeypatch.setattr(planning, "left_out", lambda *_: out)
    facts = PublicFacts(n_units=200, classes=("a", "b"))
    more = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
    made = prepare(facts, task_of(base=str(whole_tiny_base), method="full", **more)[2])
    assert made.options.get("left_out") == list(out)
    assert reach.remarks(made.options, len(made.adaptation.trainable))[0].startswith("2 of ")
    again = prepare_again(made.method, made.plan, made.options)
    for one in (made, again):
        assert set(one.adaptation.trainable) == set(every) - set(out)
        assert sum(p.numel() for p in one.adaptation.trainable.values()) == made.plan.trainable
        frozen = dict(one.base.denoiser.named_parameters())
        assert not any(frozen[name.removeprefix("unet.")].requires_grad for name in out)


def test_nothing_is_noted_where_all_learn(whole_tiny_base):
    facts = PublicFacts(n_units=200, classes=("a", "b"))
    more = {"epsilon": 2.0, "delta": 1e-3, "expected_batch_size": 20, "steps": 3}
    made = prepare(facts, task_of(base=str(whole_tiny_base), **more)[2])
    assert "left_out" not in made.options and reach.remarks(made.options, 3) == []


def test_a_matrix_that_cannot_learn_is_no_candidate(whole_tiny_base):
    """Neither is it ranked, nor does it count where the best are kept."""
    adapted = Saliency(keep=2).apply(load_base(str(whole_tiny_base)), Given(Prompts(("a",))))
    first = next(iter(adapted.groups))
    names = [n for n in adapted.trainable if n.startswith(f"unet.{first}.")]
    half, rest = adapted.without(names[:1]), adapted.without(names)
    assert half.groups == adapted.groups and half.probe == adapted.probe
    assert first not in rest.groups and first not in rest.probe.groups and rest.probe.keep == 2
    assert rest.most_trainable <= adapted.most_trainable
    assert not any(adapted.trainable[name].requires_grad for name in names)
