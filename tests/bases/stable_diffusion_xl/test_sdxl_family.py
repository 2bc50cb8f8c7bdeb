"""Stable Diffusion XL by the checks that every family passes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfumato import verbs
from sfumato.bases import KOHYA_FILE, load_base, open_adapted, write_kohya
from sfumato.bases.conditioning import tensors
from sfumato.errors import ModelError
from tests.bases import published_unets
from tests.bases.family_checks import (
    CAPTIONS,
    adapt,
    check_objective,
    check_output,
    check_sampling,
    draw,
    pipeline,
)
from tests.bases.tiny_pipelines import stable_diffusion_xl
from tests.pasted import draw_as_pasted, pixels

PROMPTS = ["a picture of a circle", "cross", "square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion_xl(tmp_path_factory.mktemp("bases") / "sdxl")


def test_the_objective(folder):
    check_objective(folder, PROMPTS, published_unets.stable_diffusion_xl, captions=CAPTIONS)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_pictures(folder, guidance_scale):
    base, pipe = load_base(folder), pipeline(folder)
    drawn = check_sampling(base, pipe, PROMPTS, draw, guidance_scale=guidance_scale)
    assert (drawn[0] != drawn[1]).any()


def test_the_empty_prompt_is_told_if_the_pipeline_says_so(tmp_path):
    told = stable_diffusion_xl(tmp_path / "told", force_zeros_for_empty_prompt=False)
    base, pipe = load_base(told), pipeline(told)
    assert tensors(base.condition([""]))["text"].any()
    check_sampling(base, pipe, PROMPTS, draw, guidance_scale=3.0)


@pytest.mark.slow
def test_a_lora_and_its_kohya_file(folder, tiny_images, tmp_path):
    run = adapt(folder, tiny_images, tmp_path / "run", "lora", "--no-embedder")
    drawn = check_output(run, folder, draw)
    # under the names of other programs, as diffusers' converter reads them
    write_kohya(run.model, tmp_path)
    pipe = pipeline(folder)
    pipe.load_lora_weights(tmp_path, weight_name=KOHYA_FILE)
    adapted = open_adapted(run.model, lambda: load_base(folder))
    check_sampling(adapted, pipe, run.plan.prompts, draw)
    assert (
        drawn != check_sampling(load_base(folder), pipeline(folder), run.plan.prompts, draw)
    ).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "attention", "saliency", "loda"])
def test_other_runs(folder, tiny_images, tmp_path, method):
    run = adapt(folder, tiny_images, tmp_path / "run", method, "--no-embedder")
    if method == "loda":
        assert open_adapted(run.model, lambda: load_base(folder)) is not None
    else:
        check_output(run, folder, draw)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["embedding", "inversion"])
def test_tokens_of_both_encoders_are_one_file_that_plain_diffusers_reads(
    folder, tiny_images, tmp_path, method
):
    run = adapt(folder, tiny_images, tmp_path / "run", method, "--placeholder-token", "<s>")
    adapted = open_adapted(run.model, lambda: load_base(folder))
    files = sorted(run.model.glob("learned_embeds*.safetensors"))
    words = [word for prompt in run.plan.prompts for word in prompt.split() if word[0] == "<"]
    assert len(files) == len(words) == 3
    pipe = pipeline(folder)
    for word, file in zip(words, files):
        held = load_file(file)
        assert {name: len(rows[0]) for name, rows in held.items()} == {"clip_l": 16, "clip_g": 12}
        for key, more in (("clip_l", ""), ("clip_g", "_2")):
            pipe.load_textual_inversion(
                held[key],
                token=word,
                text_encoder=getattr(pipe, f"text_encoder{more}"),
                tokenizer=getattr(pipe, f"tokenizer{more}"),
            )
    check_sampling(adapted, pipe, run.plan.prompts, draw, guidance_scale=2.0)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("legacy", [True, False])
def test_an_inversion_trains_on_what_the_pipeline_sees(folder, vectors, legacy):
    """Also where the pooled text is taken from the new token, as of old CLIPs' settings."""
    base = load_base(folder)
    config = base.text_encoder_2.config
    config.eos_token_id = 2 if legacy else base.tokenizer_2.eos_token_id
    for module in base.text_encoder_2.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = config.eos_token_id
    prompts, words = ("a picture <s> circle", "<s2> square"), ("<s>", "<s2>")
    rows = torch.randn(2, vectors, 28, generator=torch.Generator().manual_seed(0))
    seen = base.vector_encoder(prompts, words, vectors)(rows, torch.tensor([0, 1]))
    for word, own in zip(words, rows):
        base.learn_token(word, own)
    theirs = base.as_pipeline().encode_prompt(list(prompts), do_classifier_free_guidance=False)
    torch.testing.assert_close(seen["text"], theirs[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["pooled"], theirs[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"addition_embed_type": None}, "added conditions"),
        ({"projection_class_embeddings_input_dim": 12 + 5 * 8}, "six sizes"),
        ({"cross_attention_dim": 16}, "widths together"),
    ],
)
def test_a_denoiser_that_is_told_something_else(folder, tmp_path, settings, words):
    from diffusers import UNet2DConditionModel

    other = tmp_path / "other"
    stable_diffusion_xl(other)
    config = json.loads((other / "unet" / "config.json").read_text()) | settings
    UNet2DConditionModel.from_config(config).save_pretrained(other / "unet")
    with pytest.raises(ModelError, match=words):
        load_base(other)


@pytest.mark.parametrize("kind", ["StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"])
def test_the_refiner_is_refused_by_name(folder, tmp_path, kind):
    index = json.loads((folder / "model_index.json").read_text())
    refiner = tmp_path / "refiner"
    refiner.mkdir()
    changed = {"_class_name": kind, "text_encoder": [None, None], "tokenizer": [None, None]}
    (refiner / "model_index.json").write_text(json.dumps(index | changed))
    with pytest.raises(ModelError, match="refiner of Stable Diffusion XL"):
        load_base(refiner)


def test_gradients_reach_each_row_alone_through_the_pooled_text_too(folder):
    encoder = load_base(folder).vector_encoder(("a <s> circle",), ("<s>",), 1)
    rows = torch.zeros(3, 1, 28, requires_grad=True)
    told = encoder(rows, torch.zeros(3, dtype=torch.long))
    for part in (told["text"], told["pooled"]):
        (grad,) = torch.autograd.grad(part[1].square().sum(), rows, retain_graph=True)
        assert grad[1].any() and not grad[0].any() and not grad[2].any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "embedding"])
def test_the_cards_lines_draw_a_sample_again(folder, tiny_images, tmp_path, monkeypatch, method):
    """Also with tokens of both encoders, which `load_textual_inversion` takes one by one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ("--no-embedder",) if method == "lora" else ("--placeholder-token", "<s>")
    run = adapt(folder, tiny_images, tmp_path / "run", method, *words)
    out = verbs.release(verbs.export(run.folder, tmp_path / "out"))
    name, drawn = draw_as_pasted(out, folder, tmp_path)
    apart = np.abs(drawn - pixels(out / name))
    assert apart.mean() < 1.0 and apart.max() <= 8
