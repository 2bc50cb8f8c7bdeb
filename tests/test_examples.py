"""The examples do what the docs say of them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.bases import FAMILIES, base_info, load_base
from sfumato.errors import ModelError, SfumatoError
from sfumato.gradients import self_check
from sfumato.methods import METHODS, Given, Prompts, Trained
from sfumato.runs.folder import Run
from sfumato.training.dummy import dummy_batch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def family(monkeypatch):
    """What `examples/family.py` defines, in a table of families that ends with the test."""
    monkeypatch.setitem(FAMILIES, "DDPMPipeline", None)
    return runpy.run_path(str(EXAMPLES / "family.py"))["PixelDiffusion"]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A DDPMPipeline of some thousand random numbers, as diffusers saves it."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

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
    folder = tmp_path_factory.mktemp("pixels") / "base"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def pictures(tiny_images, tmp_path):
    """Pictures of one kind in a plain folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, path in enumerate(sorted(tiny_images.rglob("*.png"))):
        (folder / f"{number:03d}.png").write_bytes(path.read_bytes())
    return folder


OPTIONS = {
    "epsilon": 8.0,
    "delta": 1e-2,
    "method": "full",
    "steps": 2,
    "expected_batch_size": 8,
    "allow_large_delta": True,
}


def test_the_table_finds_the_family_and_says_what_the_base_is(family, pixels):
    info, base = base_info(pixels), load_base(pixels)
    assert type(base) is family and info == base.info
    assert (info.family, info.condition, info.prediction) == ("pixel-diffusion", "none", "epsilon")
    assert (info.resolution, info.latent_shape) == (16, (3, 16, 16))
    assert info.parameters == sum(p.numel() for p in base.denoiser.parameters())
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    mean, std = base.encode(images)
    assert not std.any() and (base.decode(mean) == images).all()
    assert base.blocks()[0].startswith("down_blocks.1.attentions")


def test_dp_sgd_trains_it_and_what_is_saved_draws(family, pixels, pictures, tmp_path):
    run = sfumato.adapt(
        pictures,
        anyway=True,
        yes_public=True,
        output=tmp_path / "run",
        base=str(pixels),
        unlabelled=True,
        **OPTIONS,
    )
    assert run.plan.epsilon <= 8.0 and Run.open(run.folder).plan.trainable > 1000
    before, after = load_base(pixels), load_base(run.model)
    changed = [
        name
        for (name, p), q in zip(before.denoiser.named_parameters(), after.denoiser.parameters())
        if not torch.allclose(p, q, atol=1e-3)
    ]
    assert len(changed) > len(list(before.denoiser.parameters())) / 2
    release = sfumato.synthesize(run, 3, tmp_path / "release", sampling=sfumato.Sampling(steps=3))
    sfumato.release(release)
    assert sfumato.verify(release).ok
    assert len(list(release.rglob("*.png"))) >= 3
    export = sfumato.export(run, tmp_path / "export")
    sfumato.release(export)
    assert "DDPMPipeline.from_pretrained" in (export / "README.md").read_text()


def test_the_loss_of_every_record_is_clipped_alone(family, pixels):
    """Both engines agree on gradients of single records, and no tensor goes without one."""
    made = sfumato.Full().apply(load_base(pixels), Given(Prompts(("picture",))))

    class Prepared:
        plan = type("Plan", (), {"noise_draws": 2, "classes": ("picture",)})
        base = made.base

    batch = dummy_batch(Prepared, 3)
    assert self_check(made.model, made.trainable, made.exact_losses, batch, 2) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prompt": "a {class}"}, "told nothing"),
        ({"embedder": True}, "told nothing"),
        ({"method": "embedding"}, "told nothing"),
        ({"method": "inversion"}, "told nothing"),
        ({"method": "lora"}, "no file format"),
        ({"method": "loda"}, "no file format"),
    ],
)
def test_what_the_family_cannot_do_is_refused_before_anything_is_charged(
    family, pixels, pictures, tmp_path, options, match
):
    asked = OPTIONS | options
    if options.get("method") == "inversion":
        asked = {k: v for k, v in asked.items() if k != "steps"}
    with pytest.raises(SfumatoError, match=match):
        sfumato.adapt(
            pictures,
            anyway=True,
            yes_public=True,
            output=tmp_path / "run",
            base=str(pixels),
            unlabelled=True,
            **asked,
        )
    assert not (tmp_path / "run" / "plan.json").exists()


def test_it_does_not_pretend_to_know_classes(family, pixels, tiny_images, tmp_path):
    with pytest.raises(SfumatoError, match="3 classes: give images of one class"):
        sfumato.plan(tiny_images, base=str(pixels), yes_public=True, **OPTIONS)


def test_the_page_shows_the_family_as_it_is():
    page = (EXAMPLES.parent / "docs" / "extending.md").read_text("utf-8")
    (shown,) = re.findall(
        r"^```python\n(\"\"\"A model family.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert shown == (EXAMPLES / "family.py").read_text("utf-8")


def test_without_the_line_in_the_table_the_folder_is_refused(pixels, monkeypatch):
    monkeypatch.delitem(FAMILIES, "DDPMPipeline")
    with pytest.raises(ModelError, match="is a DDPMPipeline, a family .*: sfumato adapts"):
        base_info(pixels)


@pytest.fixture
def bias(monkeypatch):
    """What `examples/method.py` defines, in a table of methods that ends with the test."""
    monkeypatch.setitem(METHODS, "bias", None)
    return runpy.run_path(str(EXAMPLES / "method.py"))["Bias"]


def test_a_method_of_ones_own_goes_from_images_to_a_verified_release(
    bias, whole_tiny_base, tiny_images, tmp_path
):
    asked = OPTIONS | {"method": "bias", "base": str(whole_tiny_base), "yes_public": True}
    report = sfumato.plan(tiny_images, **asked)
    assert report.plan.method == "bias" and report.estimate.seconds > 0
    run = sfumato.adapt(tiny_images, anyway=True, output=tmp_path / "run", **asked)
    before, after = (
        dict(load_base(place).denoiser.named_parameters()) for place in (whole_tiny_base, run.model)
    )
    moved = {name for name, p in before.items() if not torch.allclose(p, after[name], atol=2e-3)}
    assert moved and all(name.endswith(".bias") for name in moved)
    trained = sum(p.numel() for name, p in before.items() if name.endswith(".bias"))
    assert run.plan.trainable == trained < sum(p.numel() for p in before.values()) / 20
    for place in (
        sfumato.synthesize(run, 3, tmp_path / "pictures", steps=2, keep_key=True),
        sfumato.export(run, tmp_path / "model"),
    ):
        assert sfumato.verify(sfumato.release(place)).ok


def test_its_options_are_declared_like_all_others(bias, whole_tiny_base):
    assert issubclass(bias, Trained)
    given = Given(Prompts(("a",)))
    some, every = (
        set(bias(norms=norms).apply(load_base(whole_tiny_base), given).trainable)
        for norms in (False, True)
    )
    assert some < every and not any(".norm" in name for name in some)
    with pytest.raises(SfumatoError, match="does not go with --method bias"):
        sfumato.plan("nowhere", epsilon=1.0, base="icons", method="bias", blocks="9-")


def test_the_page_shows_the_method_as_it_is():
    page = (EXAMPLES.parent / "docs" / "extending.md").read_text("utf-8")
    (shown,) = re.findall(
        r"^```python\n(\"\"\"A method of one.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert shown == (EXAMPLES / "method.py").read_text("utf-8")
