"""LoDA branches: their formula, merging, the engines' agreement, and files that open without
sfumato.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.bases import (
    LODA_FILE,
    LORA_FILE,
    LoDA,
    add_loda,
    branches,
    load_base,
    load_loda,
    save_loda,
)
from sfumato.errors import SfumatoError
from sfumato.gradients import Engine, ReferenceEngine

torch.set_num_threads(1)
TARGETS = [
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
    "mid_block.attentions.0.proj_in",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.0.upsamplers.0.conv",
    "conv_out",
]
HOSTS = {
    "linear": lambda: (nn.Linear(5, 7), (4, 3, 5)),
    "conv": lambda: (nn.Conv2d(3, 5, 3, padding=1), (4, 3, 6, 6)),
    "stride": lambda: (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0)), (4, 3, 7, 6)),
    "same": lambda: (nn.Conv2d(3, 5, 3, padding="same"), (4, 3, 6, 6)),
    "pointwise": lambda: (nn.Conv2d(3, 5, 1, bias=False), (4, 3, 6, 6)),
}


def made(kind, activation="identity", rank=2):
    torch.manual_seed(2)
    host, shape = HOSTS[kind]()
    branch = LoDA(host, rank, 1.5, activation).requires_grad_(False)
    return branch, torch.randn(shape)


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("activation", ["identity", "silu"])
def test_it_starts_as_its_host_and_follows_the_formula(kind, activation):
    branch, x = made(kind, activation)
    assert torch.equal(branch(x), branch.host(x)) and not branch.up.weight.any()
    assert abs(float(branch.down.weight.std()) * branch.down.weight[0].numel() ** 0.5 - 1) < 0.6
    nn.init.normal_(branch.up.weight)
    if kind == "linear":
        inner, up = F.linear(x, branch.down.weight), F.linear
    else:
        host = branch.host
        inner, up = F.conv2d(x, branch.down.weight, None, host.stride, host.padding), F.conv2d
    inner = F.silu(inner) if activation == "silu" else inner
    assert torch.allclose(branch(x), branch.host(x) + 1.5 * up(inner, branch.up.weight), atol=1e-6)


@pytest.mark.parametrize("kind", HOSTS)
def test_merging_changes_no_output_and_can_be_undone(kind):
    branch, x = made(kind)
    nn.init.normal_(branch.up.weight)
    weight, before = branch.host.weight.clone(), branch(x)
    branch.merge()
    branch.merge()
    assert torch.allclose(branch(x), before, atol=1e-5) and torch.allclose(
        branch.host(x), before, atol=1e-5
    )
    branch.unmerge()
    branch.unmerge()
    assert torch.allclose(branch.host.weight, weight, atol=1e-6) and torch.allclose(
        branch(x), before, atol=1e-5
    )


def test_a_branch_that_is_not_linear_does_not_merge():
    branch, _ = made("linear", "tanh")
    with pytest.raises(ValueError, match="no change of weights"):
        branch.merge()


@pytest.mark.parametrize("more", [{"groups": 2}, {"dilation": 2}, {"padding_mode": "circular"}])
def test_hosts_without_a_rule_are_refused(more):
    with pytest.raises(ValueError, match="without groups"):
        LoDA(nn.Conv2d(4, 4, 3, padding=1, **more), 2)


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("activation", ["identity", "silu", "tanh", "gelu"])
@pytest.mark.parametrize("draws", [1, 3])
def test_both_engines_agree(kind, activation, draws):
    torch.manual_seed(4)
    branch = LoDA(HOSTS[kind]()[0], 2, 1.5, activation).double().requires_grad_(False)
    nn.init.normal_(branch.up.weight)
    shape = (3, draws, *HOSTS[kind]()[1][1:])
    x = torch.randn(shape, dtype=torch.float64)
    trainable = {"down": branch.down.weight, "up": branch.up.weight}

    def losses(part):
        return branch(part.flatten(0, 1)).square().flatten(1).mean(1)

    found = []
    for engine in (Engine, ReferenceEngine):
        with engine(branch, trainable) as opened:
            found.append(opened.clipped_sum(losses, x, draws=draws, clip=lambda norms: 0.1 / norms))
    (sums, norms), (right, expected) = found
    assert torch.allclose(norms, expected, rtol=1e-9)
    assert all(torch.allclose(sums[name], right[name], rtol=1e-8, atol=1e-12) for name in trainable)


def predict(unet):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return unet(
            torch.randn(2, 4, 8, 8, generator=g),
            torch.tensor(300),
            torch.randn(2, 8, 16, generator=g),
        ).sample


def trained(tiny_base, activation):
    base = load_base(tiny_base)
    start = predict(base.unet)
    add_loda(base, TARGETS, 2, 2.0, activation)
    assert (
        list(branches(base.unet)) == sorted(TARGETS, key=list(branches(base.unet)).index)
        and len(TARGETS) == 6
    )
    assert torch.equal(predict(base.unet), start)
    for branch in branches(base.unet).values():
        nn.init.normal_(branch.up.weight, std=0.1)
    assert (predict(base.unet) - start).abs().max() > 0.02
    return base


def test_a_linear_one_is_an_ordinary_lora_file(tiny_base, tmp_path):
    from diffusers import StableDiffusionPipeline

    base = trained(tiny_base, "identity")
    save_loda(base, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [LORA_FILE]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base)
    pipe.load_lora_weights(tmp_path)
    assert torch.allclose(predict(pipe.unet), predict(base.unet), atol=1e-5)
    for branch in branches(base.unet).values():
        branch.merge()
    assert torch.allclose(predict(pipe.unet), predict(base.unet), atol=1e-5)


def test_another_one_is_a_side_file_that_opens_here_and_by_the_cards_own_lines(tiny_base, tmp_path):
    base = trained(tiny_base, "silu")
    save_loda(base, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [LODA_FILE]
    again = load_base(tiny_base)
    load_loda(again, tmp_path)
    assert torch.equal(predict(again.unet), predict(base.unet))

    template = Path(__file__).parents[2] / "sfumato/releases/templates/model.md.j2"
    (lines,) = re.findall(r"```python\n(import json.*?)```", template.read_text(), re.DOTALL)
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_base)
    lines = lines.partition("{% include")[0].replace("path/to/this/folder", str(tmp_path))
    exec(lines, {"pipe": pipe})
    assert torch.allclose(predict(pipe.unet), predict(base.unet), atol=1e-6)


def test_damaged_and_foreign_files_are_refused(tiny_base, tmp_path):
    save_loda(trained(tiny_base, "silu"), tmp_path)
    path = tmp_path / LODA_FILE
    good, facts = load_file(path), {"loda": '{"rank": 2, "scale": 2.0, "activation": "silu"}'}
    for tensors, header in (
        (good, {}),
        ({n: t for n, t in good.items() if not n.startswith("conv_out.up")}, facts),
        (good | {"conv_out.up.weight": torch.zeros(1, 2, 1, 1)}, facts),
        (good | {"conv_out.up.weight": good["conv_out.up.weight"] * torch.nan}, facts),
        (good | {"nowhere.down.weight": torch.zeros(2, 2)}, facts),
        (good, {"loda": '{"rank": 2, "scale": 2.0, "activation": "eval"}'}),
    ):
        save_file(tensors, path, metadata=header)
        with pytest.raises(SfumatoError):
            load_loda(load_base(tiny_base), tmp_path)
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(SfumatoError, match="not a whole safetensors file"):
        load_loda(load_base(tiny_base), tmp_path)
