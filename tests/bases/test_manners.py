"""Downloads as people have them: what lies unread, what is tried before a plan, and true words."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import pytest
import torch

from sfumato.bases import FAMILIES, base_info, bundled_bases, folder_digest, load_base
from sfumato.bases.cards import training_data
from sfumato.bases.checks import digest_of_file
from sfumato.bases.trial import try_forward
from sfumato.bases.weights import check_extent
from sfumato.cli import main
from sfumato.errors import MachineError, ModelError, SfumatoError
from sfumato.options import Sampling
from sfumato.synthesis.sampler import resolved
from sfumato.verbs import describe_base
from tests.bases.family_checks import check_sampling, draw, pipeline
from tests.bases.tiny_pipelines import schedule

PROMPTS = ["circle", "cross"]


@pytest.fixture
def copy(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def edit(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_base(folder)
    assert "\n" not in str(caught.value)


PICKLES = [
    "v1-5-pruned.ckpt",
    "unet/diffusion_pytorch_model.bin",
    "text_encoder/pytorch_model.bin",
    "safety_checker/pytorch_model.bin",
    "vae/x.PT",
]
OTHERS = ["text_encoder/flax_model.msgpack", "unet/model.onnx", "unet/model.onnx_data"]


def test_pickles_beside_safetensors_are_never_opened(copy, tiny_base, monkeypatch):
    for name in (*PICKLES, *OTHERS):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"a pickle")
    (copy / "text_encoder" / "pytorch_model.bin.index.json").write_text("{}")
    opened = set()
    real = open

    def watch(path, *rest, **more):
        opened.add(str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr("builtins.open", watch)
    monkeypatch.setattr("io.open", watch)
    base = load_base(copy)
    assert sorted(base.info.unread) == sorted([*PICKLES, *OTHERS])
    assert opened and not any(
        path.endswith(name) for path in opened for name in (*PICKLES, *OTHERS)
    )
    assert base.info.size < base_info(tiny_base).size + 100


def test_pickles_change_no_digest(copy):
    before = folder_digest(copy)
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    (copy / "text_encoder" / "flax_model.msgpack").write_bytes(b"x")
    assert folder_digest(copy) == before


def test_a_pickle_in_place_of_weights_is_refused(copy):
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    refused(copy, "is a pickle")


def test_the_plan_names_what_it_did_not_open(copy, tiny_images, capsys):
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    words = ["--epsilon", "8", "--delta", "1e-2", "--allow-large-delta", "--anyway", "--yes-public"]
    assert main(["plan", str(tiny_images), "--base", str(copy), *words]) == 0
    said = capsys.readouterr()
    assert "not opened: unet/diffusion_pytorch_model.bin" in said.out + said.err


@pytest.mark.parametrize("sharded", [False, True])
def test_a_download_of_one_variant(copy, sharded):
    """As `--variant fp16` fetches it: every component in half precision, under such names."""
    shapes = {n: p.shape for n, p in load_base(copy).unet.named_parameters()}
    pipe = pipeline(copy)
    size = "20KB" if sharded else "10GB"
    shutil.rmtree(copy)
    pipe.to(torch.float16).save_pretrained(copy, variant="fp16", max_shard_size=size)
    held = sorted(path.name for path in copy.glob("unet/*.safetensors"))
    assert all(".fp16" in name for name in held) and (len(held) > 1) == sharded
    base = load_base(copy)
    assert {n: p.shape for n, p in base.unet.named_parameters()} == shapes
    assert base.info.parameters == base_info(copy).parameters > 10_000


def test_an_index_of_a_variant_is_looked_at_too(copy):
    index = {"weight_map": {"conv_in.weight": "../../elsewhere.bin"}}
    place = copy / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    place.write_text(json.dumps(index))
    refused(copy, "names a part")


def test_noise_with_zero_terminal_snr_is_refused(tiny_base_epsilon, tmp_path, capsys):
    folder = shutil.copytree(tiny_base_epsilon, tmp_path / "base")
    edit(
        folder / "scheduler" / "scheduler_config.json",
        rescale_betas_zero_snr=True,
        beta_schedule="scaled_linear",
    )
    refused(folder, "zero terminal SNR")
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    assert float(load_base(folder).scheduler.alphas_cumprod[-1]) == 0.0


def remade(folder, **settings):
    """The folder with another random U-Net."""
    from diffusers import UNet2DConditionModel

    config = json.loads((folder / "unet" / "config.json").read_text()) | settings
    shutil.rmtree(folder / "unet")
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


LIARS = [
    (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64,
        },
        "added conditions",
    ),
    ({"num_class_embeds": 10}, "class labels"),
    ({"class_embed_type": "timestep"}, "class labels"),
    ({"out_channels": 8}, "learnt its variance"),
    ({"attention_type": "gated"}, "GLIGEN"),
    ({"in_channels": 9}, "in-painting"),
]


@pytest.mark.parametrize(("settings", "words"), LIARS)
def test_a_unet_that_is_told_more_than_its_class_says(copy, tiny_images, capsys, settings, words):
    folder = remade(copy, **settings)
    refused(folder, words)
    asked = ["plan", str(tiny_images), "--base", str(folder), "--epsilon", "1", "--anyway"]
    assert main([*asked, "--yes-public"]) == 11  # and not 70
    assert words in capsys.readouterr().err


def test_settings_that_no_check_names_meet_a_trial(copy):
    """A U-Net that asks for an attention mask's projection, say: nobody lists all that there is."""
    refused(remade(copy, encoder_hid_dim=5, encoder_hid_dim_type="text_proj"), "of its own|work")
    base = load_base(remade(copy, encoder_hid_dim=None, encoder_hid_dim_type=None))
    base.unet.forward = lambda *_, **__: (_ for _ in ()).throw(TypeError("no such\nargument"))
    with pytest.raises(ModelError, match="does not work as in a stable-diffusion base: no such$"):
        try_forward(base)


@pytest.mark.parametrize("where", ["move", "predict"])
def test_a_base_that_memory_does_not_hold_is_not_called_damaged(tiny_base, monkeypatch, where):
    def full(*_, **__):
        raise torch.OutOfMemoryError("Tried to allocate 9 GiB")

    monkeypatch.setattr(FAMILIES["StableDiffusionPipeline"], where, full)
    with pytest.raises(MachineError, match="does not fit into memory") as caught:
        load_base(tiny_base)
    assert "\n" not in str(caught.value)


def test_a_latent_consistency_model_draws_by_its_own_scheduler(copy):
    """The guidance scale goes into the denoiser, as diffusers' pipeline puts it."""
    from diffusers import LCMScheduler

    folder = remade(copy, time_cond_proj_dim=12)
    shutil.rmtree(folder / "scheduler")
    LCMScheduler.from_config(schedule().config).save_pretrained(folder / "scheduler")
    edit(folder / "model_index.json", scheduler=["diffusers", "LCMScheduler"])
    base = load_base(folder)
    assert resolved(Sampling(), base).scheduler == "LCMScheduler"
    with torch.no_grad():
        base.unet.time_embedding.cond_proj.weight.normal_(std=0.5)
    pipe = base.as_pipeline()
    pipe.set_progress_bar_config(disable=True)
    drawn = [
        check_sampling(base, pipe, PROMPTS, draw, guidance_scale=scale, steps=2)
        for scale in (1.0, 7.0)
    ]
    assert (drawn[0] != drawn[1]).any()


def test_a_digest_holds_no_file_in_memory(tmp_path):
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(64 * 2**20)
    tracemalloc.start()
    digest_of_file(file)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * 2**20


def test_ordinary_numbers_of_language_models_pass_and_absurd_ones_do_not(tmp_path):
    config = tmp_path / "text_encoder" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"rope_theta": 5_000_000, "vocab_size": 262_144}))
    check_extent(config)
    for absurd in ({"hidden_size": 2**30}, {"num_hidden_layers": 10_000}, {"rope_theta": 2**60}):
        config.write_text(json.dumps(absurd))
        with pytest.raises(ModelError, match="no such model has"):
            check_extent(config)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("StableDiffusionInpaintPipeline", "in-painting"),
        ("StableDiffusionUpscalePipeline", "upscaler"),
        ("NobodyKnowsPipeline", "not among those known"),
    ],
)
def test_an_unknown_pipeline_is_one_true_sentence_with_the_known_ones(copy, kind, words):
    # two text encoders make no SDXL of it
    edit(copy / "model_index.json", _class_name=kind, text_encoder_2=["transformers", "T5"])
    refused(copy, f"is a {kind}.*{words}.*StableDiffusionXLPipeline")


CARD = """---
license: openrail++
datasets:
- laion/laion2B-en
- some/other
---
# A model

**Training data**
The model developers used the following dataset.

- LAION
"""


def test_bases_of_a_folder_says_what_it_is_and_what_trains(copy, capsys):
    (copy / "README.md").write_text(CARD)
    assert main(["bases", str(copy)]) == 0
    said = capsys.readouterr().out
    for words in (
        "stable-diffusion (StableDiffusionPipeline)",
        "16x16 pixels, latents 4x8x8",
        "the velocity",
        "openrail++",
        "laion/laion2B-en, some/other; The model developers used the following dataset.",
    ):
        assert words in said
    report = describe_base(copy)
    base = load_base(copy)
    assert report.trains["full"] == sum(p.numel() for p in base.learnable().values())
    assert 0 < report.trains["lora"] < report.trains["attention"] < report.trains["full"]
    assert report.trains["embedding"] == 16 and not report.refused
    assert f"{report.trains['full']:,}" in said


def test_a_card_without_a_word_on_data(tmp_path):
    assert training_data(tmp_path) is None
    (tmp_path / "README.md").write_text("# A model\n\nIt draws.\n")
    assert training_data(tmp_path) is None
    (tmp_path / "README.md").write_text("## Training data\n\n" + "\x1b[31mred " * 200)
    shown = training_data(tmp_path)
    assert shown is not None and "\x1b" not in shown and len(shown) < 310


def test_sources_go_before_the_figures_of_a_training(tmp_path):
    card, figures = tmp_path / "README.md", "## Training\n- steps: 12\n- batch: 4\n\n"
    card.write_text(figures)
    assert training_data(tmp_path) == "steps, batch"
    card.write_text(figures + "## Sources\n- `fonts-one` 1.0: MIT\n- `fonts-two` 2: OFL\n")
    assert training_data(tmp_path) == "fonts-one 1.0, fonts-two 2"
    rows = "| package | author |\n|---|---|\n| `a/b` | c |\n| `d` | e |\n"
    card.write_text(figures + "## Sources\n\n" + rows)
    assert training_data(tmp_path) == "a/b, d"
    for folder in bundled_bases().values():
        said = training_data(folder)
        assert said is not None and "steps" not in said and "|" not in said


def test_a_checkpoint_in_one_file_is_told_how_to_become_a_folder(
    copy, tiny_images, tmp_path, capsys
):
    file = tmp_path / "model.safetensors"
    shutil.copy(copy / "unet" / "diffusion_pytorch_model.safetensors", file)
    assert main(["plan", str(tiny_images), "--base", str(file), "--epsilon", "1"]) == 11
    assert "--copy model.safetensors FOLDER --base-config" in capsys.readouterr().err
    for words, code in (
        (["--base-config", str(copy)], 2),
        (["--copy", str(file), str(tmp_path / "new")], 2),
        (["--copy", str(tmp_path / "no"), str(tmp_path / "new"), "--base-config", str(copy)], 2),
        (["--copy", str(file), str(copy), "--base-config", str(copy)], 2),
        (["--copy", str(file), str(tmp_path / "new"), "--base-config", str(tmp_path)], 11),
        (["--copy", str(file), str(tmp_path / "new"), "--base-config", str(copy)], 11),
    ):
        assert main(["bases", *words]) == code, words
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
    with pytest.raises(SfumatoError):
        load_base(tmp_path / "new")
