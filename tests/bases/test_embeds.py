"""Token vectors: what inversion trains on is what diffusers computes from the saved file, with one
vector or several.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from sfumato.bases import (
    check_placeholders,
    embeds_files,
    load_base,
    load_embeds,
    save_embeds,
    word_vectors,
)
from sfumato.errors import SfumatoError


@pytest.mark.parametrize("vectors", [1, 3])
def test_diffusers_loads_the_file_and_sees_the_same_prompt(tiny_base, tmp_path, vectors):
    base = load_base(tiny_base)
    before = base.text_encoder.get_input_embeddings().weight.clone()
    prompts, words = ("a picture <s> circle", "<s2> square"), ("<s>", "<s2>")
    encoder = base.vector_encoder(prompts, words, vectors)
    rows = torch.randn(4, vectors, 16, generator=torch.Generator().manual_seed(0))
    rows[2:] = rows[:2]
    seen = encoder(rows, torch.tensor([0, 1, 0, 1]))
    # nothing was resized
    assert torch.equal(seen[:2], seen[2:]) and len(base.tokenizer) == len(before)
    save_embeds(tmp_path, {"<s>": rows[0], "<s2>": rows[1]})
    assert [p.name for p in embeds_files(tmp_path)] == [
        "learned_embeds-000.safetensors",
        "learned_embeds-001.safetensors",
    ]
    load_embeds(base, tmp_path)
    assert torch.allclose(base.condition(prompts), seen[:2], atol=1e-5)
    pipe = base.as_pipeline()
    theirs, _ = pipe.encode_prompt(list(prompts), "cpu", 1, False)
    assert torch.allclose(theirs, seen[:2], atol=1e-5)
    assert torch.equal(base.text_encoder.get_input_embeddings().weight[: len(before)], before)


def test_one_token_is_one_file_that_a_fresh_pipeline_opens_by_folder(tiny_base, tmp_path):
    from diffusers import StableDiffusionPipeline

    save_embeds(tmp_path, {"<artwork>": torch.ones(1, 16)})
    assert list(load_file(tmp_path / "learned_embeds.safetensors")) == ["<artwork>"]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, local_files_only=True)
    pipe.load_textual_inversion(tmp_path)
    assert pipe.tokenizer.convert_tokens_to_ids("<artwork>") == len(pipe.tokenizer) - 1


def test_gradients_reach_each_row_alone(tiny_base):
    encoder = load_base(tiny_base).vector_encoder(("a <s> circle",), ("<s>",), 1)
    rows = torch.zeros(3, 1, 16, requires_grad=True)
    encoder(rows, torch.zeros(3, dtype=torch.long))[1].square().sum().backward()
    assert rows.grad[1].abs().sum() > 0 and not rows.grad[0].any() and not rows.grad[2].any()


def test_bad_prompts_and_placeholders_are_refused(tiny_base, tmp_path):
    base = load_base(tiny_base)
    for prompt in ("a circle", "<s> and <s>"):
        with pytest.raises(SfumatoError, match="exactly once"):
            base.vector_encoder((prompt,), ("<s>",), 1)
    with pytest.raises(SfumatoError, match="longer"):
        base.vector_encoder(("a picture of a <s> circle",), ("<s>",), vectors=3)
    for word in ("circle", "<S>", "<a b>", "s"):
        with pytest.raises(SfumatoError, match="placeholder"):
            check_placeholders(base, [word])
    save_embeds(tmp_path, {"<s>": torch.ones(1, 8)})
    with pytest.raises(SfumatoError, match="does not fit"):
        load_embeds(base, tmp_path)


def test_words_stand_for_their_tokens(tiny_base):
    base = load_base(tiny_base)
    table = base.text_encoder.get_input_embeddings().weight
    (circle,) = base.tokenizer("circle", add_special_tokens=False).input_ids
    assert torch.equal(word_vectors(base, "circle"), table[circle])
    assert torch.allclose(word_vectors(base, None), table.mean(0))
