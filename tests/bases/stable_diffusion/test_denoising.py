"""The sampler's denoiser is the base's own, to the last bit, on every base."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from sfumato.bases import add_lora, load_base


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def base(tiny_base, request):
    opened = load_base(tiny_base)
    opened.formats = replace(opened.formats, sample=request.param)
    return opened


def predictions(base, steps=(900, 500, 100)):
    """What the sampler's denoiser and the plain call predict at the same places, and the memory
    that was kept.
    """
    text = base.condition(["circle", "cross", "square"])
    generator = torch.Generator().manual_seed(0)
    denoise, memory, pairs = base.make_denoise(), {}, []
    for t in steps:
        latents = torch.randn(3, 4, 8, 8, generator=generator)
        half = base.formats.sample is torch.bfloat16
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            plain = base.unet(latents, t, text).sample.float()
        pairs.append((denoise(latents, torch.tensor(t), text, memory), plain))
    return pairs, memory


def test_it_predicts_what_the_base_predicts(base):
    before = {name: type(p) for name, p in base.unet.attn_processors.items()}
    pairs, memory = predictions(base)
    assert all(torch.equal(fast, plain) for fast, plain in pairs)
    # cross-attentions: one on the way down, one in the middle, two on the way up
    assert len(memory) == 4
    assert {name: type(p) for name, p in base.unet.attn_processors.items()} == before


def test_an_adapter_that_is_not_merged_takes_part(base):
    without = predictions(base)[0]
    add_lora(
        base,
        [n for n, _ in base.unet.named_modules() if n.endswith((".to_q", ".to_k", ".to_v"))],
        2,
        2.0,
    )
    with torch.no_grad():
        for name, p in base.unet.named_parameters():
            if "lora_B" in name:
                p.fill_(0.3)
    pairs = predictions(base)[0]
    assert all(torch.equal(fast, plain) for fast, plain in pairs)
    assert not torch.equal(pairs[0][0], without[0][0])


@pytest.mark.parametrize("case", ["processor", "rescaled", "residual"])
def test_other_attention_is_left_as_it_is(base, case):
    attention = next(m for m in base.unet.modules() if hasattr(m, "processor"))
    if case == "processor":
        attention.set_processor(AttnProcessor2_0())
    elif case == "rescaled":
        attention.rescale_output_factor = 2.0
    else:
        attention.residual_connection = True
    pairs, memory = predictions(base)
    assert all(torch.equal(fast, plain) for fast, plain in pairs) and not memory


def test_weights_are_shared(base):
    before = predictions(base)[0]
    denoise = base.make_denoise()
    with torch.no_grad():
        base.unet.conv_out.weight.zero_()
        base.unet.conv_out.bias.zero_()
    text = base.condition(["circle"])
    assert (
        before[0][0].any() and not denoise(torch.ones(1, 4, 8, 8), torch.tensor(5), text, {}).any()
    )
