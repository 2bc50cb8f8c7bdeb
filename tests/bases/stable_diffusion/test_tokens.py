"""Placeholder tokens: one id each, saved and loaded, and the same embeddings in training and in the
saved pipeline.
"""

from __future__ import annotations

import pytest
import torch

from sfumato.bases import load_base
from sfumato.errors import SfumatoError

WORDS = ("<class-0>", "<class-1>", "<class-10>")
PROMPTS = tuple(f"a picture of a {word}" for word in WORDS)


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base)


def test_one_new_id_each_started_from_its_look_alike(base):
    before = len(base.tokenizer)
    table = base.text_encoder.get_input_embeddings().weight.detach().clone()
    ids = base.add_tokens(WORDS, ("circle", None, "small letter"))
    assert ids == [before, before + 1, before + 2]
    for word, number in zip(WORDS, ids):
        assert base.tokenizer(word, add_special_tokens=False).input_ids == [number]
        assert base.tokenizer(f"a {word} circle", add_special_tokens=False).input_ids[1] == number
    after = base.text_encoder.get_input_embeddings().weight
    rows = [
        base.tokenizer(t, add_special_tokens=False).input_ids for t in ("circle", "small letter")
    ]
    assert torch.equal(after[:before], table) and len(after) == before + 3
    assert torch.equal(after[ids[0]], table[rows[0]].mean(0)) and torch.equal(
        after[ids[2]], table[rows[1]].mean(0)
    )
    assert torch.allclose(after[ids[1]], table.mean(0))
    assert not any(p.requires_grad for p in base.text_encoder.parameters())


def test_a_word_that_exists_is_refused(base):
    base.add_tokens(WORDS[:1], (None,))
    with pytest.raises(SfumatoError, match="already has a token"):
        base.add_tokens(WORDS[:1], (None,))


def test_training_sees_what_the_saved_pipeline_computes(base, tmp_path):
    from diffusers import StableDiffusionPipeline

    ids = base.add_tokens(WORDS, ("circle", "cross", None))
    encoder = base.token_encoder(PROMPTS, ids)
    with torch.no_grad():
        encoder.tokens.weight += torch.randn(
            encoder.tokens.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    labels = torch.tensor([2, 0, 1, 0])
    seen = encoder(labels).detach()
    base.write_embeddings(ids, encoder.tokens.weight.detach())
    assert torch.allclose(seen, base.condition([PROMPTS[i] for i in labels]), atol=1e-6)
    theirs, _ = base.as_pipeline().encode_prompt([PROMPTS[i] for i in labels], "cpu", 1, False)
    assert torch.allclose(seen, theirs, atol=1e-6)

    base.as_pipeline().save_pretrained(tmp_path / "saved")
    saved = StableDiffusionPipeline.from_pretrained(tmp_path / "saved", local_files_only=True)
    assert [saved.tokenizer(w, add_special_tokens=False).input_ids for w in WORDS] == [
        [i] for i in ids
    ]
    theirs, _ = saved.encode_prompt([PROMPTS[i] for i in labels], "cpu", 1, False)
    assert torch.allclose(seen, theirs, atol=1e-6)
    again = load_base(tmp_path / "saved")
    assert torch.allclose(again.condition(PROMPTS), encoder(torch.arange(3)).detach(), atol=1e-6)


def test_gradients_reach_the_rows_in_use_and_nothing_else(base):
    ids = base.add_tokens(WORDS, (None, None, None))
    encoder = base.token_encoder(PROMPTS, ids)
    encoder(torch.tensor([2, 2])).square().sum().backward()
    grad = encoder.tokens.weight.grad
    assert grad[2].any() and not grad[:2].any()
    assert all(p.grad is None for p in base.text_encoder.parameters())
    assert [n for n, p in encoder.named_parameters() if p.requires_grad] == ["tokens.weight"]
    assert not base.text_encoder.get_input_embeddings()._forward_hooks


def test_a_class_without_a_token_is_read_as_it_is(base):
    """Its words stay the base's: it reaches no vector, and the others' vectors do not reach it."""
    plain = base.condition(("circle", "cross"))
    ids = base.add_tokens(WORDS[:2], (None, None))
    prompts = ("circle", "a <class-1>", "cross", "<class-0>")
    encoder = base.token_encoder(prompts, [None, ids[1], None, ids[0]])
    with torch.no_grad():
        encoder.tokens.weight += torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    seen = encoder(torch.tensor([2, 1, 0, 3, 1]))
    assert torch.equal(seen[[2, 0]], plain)
    base.write_embeddings([ids[1], ids[0]], encoder.tokens.weight.detach())
    expected = base.condition([prompts[i] for i in (2, 1, 0, 3, 1)])
    assert torch.allclose(seen, expected, atol=1e-6)
    encoder(torch.tensor([0, 2])).square().sum().backward()
    assert not encoder.tokens.weight.grad.any()
    encoder(torch.tensor([0, 3])).square().sum().backward()
    assert encoder.tokens.weight.grad[1].any() and not encoder.tokens.weight.grad[0].any()
    with pytest.raises(SfumatoError, match="exactly once"):
        base.token_encoder(("circle", "cross"), [None, ids[1]])


def test_the_hook_is_gone_after_an_error(base):
    ids = base.add_tokens(WORDS, (None, None, None))
    encoder = base.token_encoder(PROMPTS, ids)
    with pytest.raises(IndexError):
        encoder(torch.tensor([7]))
    assert not base.text_encoder.get_input_embeddings()._forward_hooks


def test_every_prompt_must_hold_its_own_placeholder_once(base):
    ids = base.add_tokens(WORDS[:2], (None, None))
    for prompts in (
        ("circle", "<class-1>"),
        ("<class-1>", "<class-0>"),
        ("<class-0> <class-0>", "<class-1>"),
    ):
        with pytest.raises(SfumatoError, match="exactly once"):
            base.token_encoder(prompts, ids)
