"""All methods: what trains, both engines agree, and what is saved is what was trained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from sfumato.bases import (
    LODA_FILE,
    LORA_FILE,
    load_base,
    open_adapted,
    words_in,
)
from sfumato.errors import SfumatoError
from sfumato.gradients import Engine, ReferenceEngine, self_check
from sfumato.methods import METHODS, Given, Prompts
from sfumato.options import Recipe
from sfumato.privacy.clipping import flat
from sfumato.training import Batch
from sfumato.training.checkpoint import State

PLAIN = Prompts(("circle", "cross", "square"))
TOKENS = Prompts(
    tuple(f"a picture of a <class-{i}>" for i in range(3)),
    tuple(f"<class-{i}>" for i in range(3)),
    ("circle", None, "cross"),
)
ONE = Prompts(("a circle", "a <zebra>", "a cross"), (None, "<zebra>", None), (None, None, None))


def made(whole_tiny_base, method, prompts=PLAIN, seed=0, **options):
    base = load_base(whole_tiny_base)
    torch.manual_seed(seed)
    return base, METHODS[method](**options).apply(base, Given(prompts))


def wake(adaptation):
    """Fill the tensors that start at zero, so that every gradient is alive."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in adaptation.trainable.values():
            if not p.any():
                p.copy_(torch.randn(p.shape, generator=g) * 0.1)


def batch_of(units, draws, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (units, draws, 4, 8, 8)
    return Batch(
        mean=torch.randn(shape, generator=g),
        std=torch.full(shape, 0.1),
        label=torch.randint(0, 3, (units, draws), generator=g),
        latent_noise=torch.randn(shape, generator=g),
        noise=torch.randn(shape, generator=g),
        time=torch.randint(0, 1000, (units, draws), generator=g),
        drop=torch.arange(units * draws).view(units, draws) % 5 == 4,
        weight=torch.ones(units, draws),
    )


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("prompts", [PLAIN, TOKENS, ONE], ids=["plain", "tokens", "one"])
@pytest.mark.parametrize("method", ["full", "attention", "lora", "saliency", "loda"])
def test_both_engines_give_the_same_clipped_sums(whole_tiny_base, method, prompts, draws):
    _, adaptation = made(whole_tiny_base, method, prompts)
    wake(adaptation)
    batch = batch_of(5, draws)
    found = []
    for engine in (Engine, ReferenceEngine):
        with engine(adaptation.model, adaptation.trainable) as opened:
            _, norms = opened.clipped_sum(
                adaptation.row_losses, batch, draws=draws, clip=torch.ones_like
            )
            clip = flat(float(norms.median())).factors  # some are clipped, some are not
            sums, norms = opened.clipped_sum(
                adaptation.row_losses, batch, draws=draws, clip=clip, micro_batch=2
            )
            empty, none = opened.clipped_sum(
                adaptation.row_losses, batch[0:0], draws=draws, clip=clip, micro_batch=2
            )
            assert (
                len(none) == 0
                and not any(t.any() for t in empty.values())
                and set(empty) == set(sums)
            )
            found.append((sums, norms))
    (sums, norms), (right, expected) = found
    assert torch.allclose(norms, expected, rtol=1e-4)
    whole = torch.stack([t.norm() for t in right.values()]).norm()
    for name, value in right.items():
        assert (sums[name] - value).norm() <= 1e-4 * max(
            float(value.norm()), 1e-3 * float(whole)
        ), name
    assert set(sums) == set(adaptation.trainable)


@pytest.mark.parametrize("method", ["full", "attention", "lora", "saliency", "loda"])
def test_every_tensor_that_trains_gets_a_gradient(whole_tiny_base, method):
    _, adaptation = made(whole_tiny_base, method, TOKENS)
    assert (
        self_check(
            adaptation.model, adaptation.trainable, adaptation.exact_losses, batch_of(3, 2), 2
        )
        == []
    )


def test_what_trains(whole_tiny_base):
    base, full = made(whole_tiny_base, "full")
    assert {n.removeprefix("unet.") for n in full.trainable} == {
        n for n, _ in base.unet.named_parameters()
    }
    base, attention = made(whole_tiny_base, "attention", TOKENS)
    names = {n for n in attention.trainable if n != "tokens.weight"}
    assert names == {f"unet.{n}" for n, _ in base.unet.named_parameters() if ".attentions." in n}
    assert (
        any("to_out.0" in n for n in names)
        and any("ff.net" in n for n in names)
        and any("norm1" in n for n in names)
    )
    assert attention.learning_rate_factor.keys() == {"tokens.weight"}
    _, part = made(whole_tiny_base, "attention", blocks="2-3")
    assert part.targets == ("mid_block.attentions.0", "up_blocks.0.attentions.0")
    assert {n.split(".attentions")[0] for n in part.trainable} == {
        "unet.mid_block",
        "unet.up_blocks.0",
    }


# Of the first version of `Base`, before a family said its own prefix: number of tensors in a
# checkpoint, and SHA-256 of their names in order with the groups that they are clipped in.
NAMES = {
    "attention": (210, "783a6ab6ea17cf03"),
    "lora": (130, "fc9848dade1f410d"),
    "saliency": (130, "fc9848dade1f410d"),
    "loda": (66, "751d936089649ffa"),
    "full": (418, "52c48420e9497732"),
    "embedding": (2, "227cfb8c7f41dcb0"),
}


@pytest.mark.parametrize("method", NAMES)
def test_the_names_in_checkpoints_stay(whole_tiny_base, method):
    """Run folders go on, and noise keeps its addresses, only under the names they began with."""
    _, adaptation = made(whole_tiny_base, method, TOKENS)
    state = State(adaptation.trainable, adaptation.learning_rate_factor, Recipe(learning_rate=1.0))
    names = list(state.tensors())
    said = json.dumps([names, adaptation.clip_groups])
    assert (len(names), hashlib.sha256(said.encode()).hexdigest()[:16]) == NAMES[method]
    assert names[0].startswith(("weight/unet.", "weight/tokens.weight"))


@pytest.mark.parametrize("freeze_a", [False, True])
def test_lora_adapts_exactly_its_targets(whole_tiny_base, freeze_a):
    base, lora = made(whole_tiny_base, "lora", rank=3, freeze_a=freeze_a)
    modules = {n.split(".lora_")[0] for n, _ in base.unet.named_parameters() if ".lora_" in n}
    assert modules == set(lora.targets) and len(lora.trainable) == len(lora.targets) * (
        1 if freeze_a else 2
    )
    assert any(n.endswith("to_out.0") for n in lora.targets)
    for name, p in lora.trainable.items():
        assert 3 in p.shape and bool(p.any()) == ("lora_A" in name)
    same, again = made(whole_tiny_base, "lora", rank=3, freeze_a=freeze_a)[1], lora
    assert all(torch.equal(p, again.trainable[n]) for n, p in same.trainable.items())


def test_bad_options(whole_tiny_base):
    with pytest.raises(SfumatoError, match="--target-modules nonsense"):
        made(whole_tiny_base, "lora", target_modules=["to_q", "nonsense"])
    with pytest.raises(SfumatoError, match="--blocks 9-"):
        made(whole_tiny_base, "attention", blocks="9-")


def test_a_row_looks_at_no_other_row(whole_tiny_base):
    _, adaptation = made(whole_tiny_base, "attention", TOKENS)
    batch = batch_of(3, 2)
    with torch.no_grad():
        before = adaptation.row_losses(batch)
        mean = batch.mean.clone()
        mean[1] = float("nan")
        after = adaptation.row_losses(replace(batch, mean=mean))
    assert torch.equal(before[[0, 1, 4, 5]], after[[0, 1, 4, 5]]) and after[2:4].isnan().all()


def test_dropped_captions_get_the_empty_prompt_and_leave_the_tokens_alone(whole_tiny_base):
    _, adaptation = made(whole_tiny_base, "attention", TOKENS)
    batch = replace(batch_of(2, 1), drop=torch.ones(2, 1, dtype=torch.bool))
    with ReferenceEngine(adaptation.model, adaptation.trainable) as engine:
        sums, _ = engine.clipped_sum(adaptation.row_losses, batch, clip=torch.ones_like)
    assert not sums["tokens.weight"].any()
    other = replace(batch, label=(batch.label + 1) % 3)
    assert torch.equal(adaptation.row_losses(batch), adaptation.row_losses(other))


def train_a_little(adaptation):
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in adaptation.trainable.values():
            p += torch.randn(p.shape, generator=g) * 0.05


def predict(base, prompts):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        x = torch.randn(len(prompts), 4, 8, 8, generator=g)
        return base.unet(x, torch.tensor(300), base.condition(prompts)).sample


@pytest.mark.parametrize("prompts", [PLAIN, TOKENS, ONE], ids=["plain", "tokens", "one"])
@pytest.mark.parametrize("method", ["full", "attention", "lora", "loda", "loda silu"])
def test_what_is_saved_is_what_was_trained(whole_tiny_base, tmp_path, method, prompts):
    method, _, g = method.partition(" ")
    base, adaptation = made(whole_tiny_base, method, prompts, **({"activation": g} if g else {}))
    frozen = {n: p.detach().clone() for n, p in base.vae.named_parameters()}
    rest = {
        n: p.detach().clone()
        for n, p in base.unet.named_parameters()
        if f"unet.{n}" not in adaptation.trainable
    }
    start = predict(base, prompts.prompts)
    train_a_little(adaptation)
    tokens = adaptation.trainable.get("tokens.weight")
    if tokens is not None:
        base.write_embeddings(base.token_ids(list(prompts.tokens)), tokens.detach())
    expected = predict(base, prompts.prompts)
    assert all(torch.equal(p, frozen[n]) for n, p in base.vae.named_parameters())
    assert all(torch.equal(p, rest[n]) for n, p in base.unet.named_parameters() if n in rest)
    adaptation.save(tmp_path)
    assert (tmp_path / LORA_FILE).exists() == (method in ("lora", "loda") and not g)
    assert (tmp_path / LODA_FILE).exists() == bool(g)
    whole = method in ("full", "attention")
    assert (tmp_path / "model_index.json").exists() == whole
    assert len(list(tmp_path.glob("learned_embeds*"))) == (0 if whole else len(prompts.tokens))
    assert set(words_in(tmp_path)) == set(prompts.tokens)
    again = open_adapted(tmp_path, lambda: load_base(whole_tiny_base))
    moved = (expected - start).abs().max()
    assert moved > 0.02 and (predict(again, prompts.prompts) - expected).abs().max() < 0.1 * moved
