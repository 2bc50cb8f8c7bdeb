"""DP-SAPF's selection is exact, and adapters start where they were told to."""

from __future__ import annotations

import pytest
import torch

from sfumato.bases import load_base, lora_inputs
from sfumato.bases.unets import PROJECTIONS
from sfumato.errors import SfumatoError
from sfumato.methods import METHODS, Given, Lora, Prompts, Saliency
from sfumato.methods.starting import right_vectors
from sfumato.methods.targets import grouped, how_many, matching_modules

PLAIN = Prompts(("circle", "cross", "square"))


def made(whole_tiny_base, seed=0, selected=None, **options):
    base = load_base(whole_tiny_base)
    torch.manual_seed(seed)
    return base, Saliency(**{"rank": 3} | options).apply(base, Given(PLAIN, selected=selected))


def test_until_a_choice_is_made_all_candidates_are_adapted(whole_tiny_base):
    base, adapted = made(whole_tiny_base)
    assert (
        len(adapted.targets) == 32 == len(adapted.probe.groups)
        and adapted.probe.keep == 10 == adapted.probe.votes
    )
    sizes = sorted(
        3 * sum(base.unet.get_submodule(m).base_layer.weight.shape) for m in adapted.targets
    )
    assert (
        adapted.most_trainable
        == sum(sizes[-10:])
        < sum(p.numel() for p in adapted.trainable.values())
    )


def test_every_selected_matrix_gets_its_adapter_to_out_included(whole_tiny_base):
    candidates = matching_modules(load_base(whole_tiny_base), PROJECTIONS)
    chosen = [m for m in candidates if m.endswith("to_out.0")] + candidates[:1]
    base, adapted = made(whole_tiny_base, keep=len(chosen), selected=chosen)
    assert adapted.probe is None and set(adapted.targets) == set(chosen) == set(lora_inputs(base))
    assert len(adapted.trainable) == 2 * len(chosen)
    assert adapted.most_trainable == sum(p.numel() for p in adapted.trainable.values())


@pytest.mark.parametrize(("granularity", "groups"), [("matrix", 32), ("layer", 8), ("block", 4)])
def test_granularity(whole_tiny_base, granularity, groups):
    base = load_base(whole_tiny_base)
    found = grouped(base, matching_modules(base, PROJECTIONS), granularity)
    assert len(found) == groups and all(
        m.startswith(g) for g, members in found.items() for m in members
    )
    name = list(found)[1]
    base, adapted = made(whole_tiny_base, keep=1, granularity=granularity, selected=[name])
    assert adapted.targets == found[name]


def test_named_sets_include_convolutions_and_feed_forward(whole_tiny_base):
    base = load_base(whole_tiny_base)
    for name, end in (
        ("attention", "to_out.0"),
        ("feed-forward", "ff.net.2"),
        ("convolutions", "conv_shortcut"),
    ):
        assert any(m.endswith(end) for m in matching_modules(base, [name]))
    every = matching_modules(base, ["attention", "feed-forward", "convolutions"])
    groups = grouped(base, every, "block")
    assert {g.split(".")[-2] for g in groups} == {
        "attentions",
        "resnets",
        "downsamplers",
        "upsamplers",
    }
    assert sum(map(len, groups.values())) == len(every) == len(set(every))
    layers = grouped(base, every, "layer")
    assert any(g.endswith(".ff") for g in layers) and any(g.endswith("attn2") for g in layers)
    _, adapted = made(whole_tiny_base, target_modules=["attention", "convolutions"], keep=0.5)
    assert any("conv1" in g for g in adapted.probe.groups) and any(
        "conv1" in n for n in adapted.trainable
    )


def test_chance_follows_the_public_seed(whole_tiny_base):
    first, same, other = (
        made(whole_tiny_base, seed=s, choose="random", keep=6)[1].targets for s in (1, 1, 2)
    )
    assert first == same != other and len(first) == 6


@pytest.mark.parametrize(("keep", "count"), [(0.3, 10), (1.0, 32), (0.001, 1), (1, 1), (32, 32)])
def test_ratio_or_count(keep, count):
    assert how_many(keep, 32) == count


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": 0}, "--keep"),
        ({"keep": 33}, "--keep"),
        ({"keep": 1.5}, "--keep"),
        ({"keep": True}, "--keep"),
        ({"granularity": "wishful"}, "--granularity"),
        ({"choose": "well"}, "--choose"),
        ({"score": "gut"}, "score"),
        ({"votes": 32}, "votes"),
        ({"score": "squares", "votes": 3}, "votes"),
        ({"probe_clip": 1.0}, "clip norm"),
        ({"choose": "public"}, "--public-data"),
        ({"adapter_init": "best"}, "--adapter-init"),
        ({"adapter_init": "public"}, "--public-data"),
        ({"keep": 2, "selected": ["a", "b"]}, "selection does not fit"),
    ],
)
def test_bad_words(whole_tiny_base, options, match):
    with pytest.raises(SfumatoError, match=match):
        made(whole_tiny_base, **options)


@pytest.mark.parametrize("method", ["lora", "loda"])
def test_orthonormal_and_public_starts_keep_the_length_of_the_gaussian(whole_tiny_base, method):
    lengths = {}
    for how in ("gaussian", "orthonormal", "public"):
        base, start = load_base(whole_tiny_base), None
        targets = {"lora": ["to_q"], "loda": ["mid_block.resnets.0.conv1"]}[method]
        if how == "public":
            names = matching_modules(base, targets)
            start = {
                n: right_vectors(torch.randn_like(base.unet.get_submodule(n).weight), 2)
                for n in names
            }
        torch.manual_seed(0)
        adapted = METHODS[method](rank=2, target_modules=targets, adapter_init=how).apply(
            base, Given(PLAIN, start)
        )
        name = next(n for n in adapted.trainable if "lora_A" in n or "down.weight" in n)
        rows = adapted.trainable[name].detach().flatten(1)
        lengths[how] = float(rows.norm())
        if how != "gaussian":
            assert abs(float(rows[0] @ rows[1])) < 1e-4 * lengths[how] ** 2
        if start:
            (held,) = [v for n, v in start.items() if f"unet.{n}." in name]
            assert torch.allclose(rows / rows.norm(dim=1, keepdim=True), held, atol=1e-5)
    assert max(lengths.values()) < 1.001 * min(lengths.values())


def test_more_directions_than_there_are_is_refused(whole_tiny_base):
    with pytest.raises(SfumatoError, match="lower --rank"):
        Lora(rank=20, adapter_init="orthonormal").apply(load_base(whole_tiny_base), Given(PLAIN))


def test_right_vectors_are_where_the_gradient_lies():
    torch.manual_seed(0)
    inputs = torch.randn(3, 18)
    gradient = (torch.randn(5, 3) @ inputs).view(5, 2, 3, 3)
    rows = right_vectors(gradient, 3)
    assert torch.allclose(gradient.flatten(1) @ rows.T @ rows, gradient.flatten(1), atol=1e-4)
