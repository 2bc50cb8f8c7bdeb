"""What a base is, without its weights: `BaseInfo` by bundled name, folder, and adapters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil

import pytest
import torch

from sfumato.bases import FAMILIES, base_info, bundled_bases, folder_digest, load_base
from sfumato.errors import ModelError, SfumatoError


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def edit(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", ["glyphs", "letters", "icons", "things"])
def test_what_a_bundled_base_says_of_itself(name):
    info, base = base_info(name), load_base(name)
    side = 64 if name == "things" else 32
    numbers = sum(
        p.numel() for m in (base.unet, base.vae, base.text_encoder) for p in m.parameters()
    )
    assert dataclasses.asdict(info) | {"digest_of": None} == {
        "name": name,
        "family": "stable-diffusion",
        "folder": bundled_bases()[name],
        "resolution": side,
        "latent_shape": (4, side // 4, side // 4),
        "condition": "text",
        "prediction": "v_prediction",
        "licence": "apache-2.0",
        "parameters": numbers,
        "held": 4 * numbers,  # small parts are single precision
        "size": sum(p.stat().st_size for p in bundled_bases()[name].rglob("*") if p.is_file()),
        "digest_of": None,
        "unread": (),
    }
    assert info.digest == base.digest == folder_digest(bundled_bases()[name])
    assert (base.resolution, base.latent_shape) == (info.resolution, info.latent_shape)
    picture, _ = base.encode(torch.zeros(1, side, side, 3, dtype=torch.uint8).numpy())
    assert picture.shape[1:] == info.latent_shape
    assert base.decode(picture).shape == (1, side, side, 3)


def test_what_the_bundled_base_of_pixels_says_of_itself():
    info, base = base_info("glyphs-pixels"), load_base("glyphs-pixels")
    assert (info.family, info.condition, info.prediction) == ("pixel-unet", "class", "v_prediction")
    assert (info.resolution, info.latent_shape, info.licence) == (28, (1, 28, 28), "apache-2.0")
    assert info.size < 6_000_000 and info.digest == base.digest
    rows = base.condition(["7", "seven", "Q", "small q", ""])
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[2], rows[3])


def test_no_weight_is_read(copy, monkeypatch):
    """Neither by a library nor from the file: the numbers behind the headers are gone."""
    for path in copy.rglob("*.safetensors"):
        length = int.from_bytes(path.read_bytes()[:8], "little")
        whole = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(8 + length)
            file.truncate(whole)  # a hole: as long as it was, and zeros throughout
    import diffusers
    import transformers

    def no(*_, **__):
        raise AssertionError("weights are read")

    monkeypatch.setattr(diffusers.ModelMixin, "from_pretrained", no)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", no)
    monkeypatch.setattr("sfumato.bases.checks.folder_digest", no)
    info = base_info(copy)
    assert (info.resolution, info.latent_shape, info.licence) == (16, (4, 8, 8), None)
    with pytest.raises(AssertionError):
        info.digest  # noqa: B018


def test_the_digest_of_a_loaded_base_is_that_of_what_was_loaded(copy):
    base, before = load_base(copy), folder_digest(copy)
    edit(copy / "scheduler" / "scheduler_config.json", steps_offset=0)
    assert base.digest == before != folder_digest(copy)


@pytest.mark.parametrize(
    ("file", "fields", "match"),
    [
        ("model_index.json", {"_class_name": "AuraFlowPipeline"}, "is a AuraFlowPipeline"),
        ("model_index.json", {"_class_name": ["a"]}, "sfumato adapts folders of"),
        ("model_index.json", {"_class_name": "Flux2Pipeline"}, "FLUX.2 dev, .* needs torchvision"),
        ("unet/config.json", {"sample_size": None}, "sample_size is no number"),
        ("unet/config.json", {"sample_size": [8, 8]}, "sample_size is no number"),
        ("unet/config.json", {"in_channels": 9}, "9 channels"),
        ("unet/config.json", {"in_channels": True}, "in_channels is no number"),
        ("vae/config.json", {"block_out_channels": 4}, "not those of such models"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts sample"),
        ("unet/config.json", {"auto_map": {}}, "asks for code"),
    ],
)
def test_what_cannot_be_adapted_is_refused_without_weights(copy, file, fields, match):
    edit(copy / file, **fields)
    with pytest.raises(ModelError, match=match):
        base_info(copy)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags: [a]\nlicense: cc-by-4.0\n---\nlicense: mit", "cc-by-4.0"),
        ("license: mit", None),
        ("---\nlicense: mit", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlicense: a\tb\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_cards_head_says(copy, card, licence):
    (copy / "README.md").write_text(card)
    assert base_info(copy).licence == licence


def test_a_second_precision_beside_the_first_counts_once(copy):
    before = base_info(copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    after = base_info(copy)
    assert after.parameters == before.parameters
    assert after.size == before.size + weights.stat().st_size


def test_adapters_are_the_base_that_they_name_with_a_digest_of_their_own(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    from sfumato.bases import add_lora, save_lora

    base = load_base("letters")
    add_lora(base, ["mid_block.attentions.0.proj_in"], 2, 2.0)
    save_lora(base, folder)
    said = {"conditions": {"base": "letters", "base_digest": base.digest}}
    (folder / "privacy.json").write_text(json.dumps({"certificate": said}))
    info, adapted = base_info(folder), load_base(folder)
    (file,) = folder.glob("*.safetensors")
    own = hashlib.sha256(base.digest.encode())
    own.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    assert info.digest == adapted.digest == own.hexdigest()
    assert (info.name, info.folder, info.resolution) == (str(folder), folder, 32)
    assert adapted.info == info


def test_nothing_there(tmp_path):
    with pytest.raises(SfumatoError, match="no base at"):
        base_info(tmp_path / "none")


def test_every_family_says_what_the_rest_of_the_package_asks_for():
    for family in FAMILIES.values():
        assert not family.__abstractmethods__ and family.prefix.isidentifier()
        assert "scheduler" in family.components and family.family


@pytest.mark.parametrize("shards", [None, "20KB"])
def test_a_base_fetched_in_one_variant_opens(tiny_base, tmp_path, shards):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_base)
    how = {} if shards is None else {"max_shard_size": shards}
    pipe.save_pretrained(tmp_path / "half", variant="fp16", **how)
    there, here = load_base(tmp_path / "half"), load_base(tiny_base)
    assert all(map(torch.equal, there.denoiser.parameters(), here.denoiser.parameters()))
    for file in (tmp_path / "half" / "vae").glob("*.fp16*.safetensors"):
        shutil.copy(file, file.with_name(file.name.replace("fp16", "bf16")))
    with pytest.raises(ModelError, match="the variants bf16, fp16: keep one"):
        load_base(tmp_path / "half")
