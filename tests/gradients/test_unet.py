"""A tiny diffusers UNet with the three trainable sets: everything, attention modules, peft's LoRA."""

from __future__ import annotations

import pytest
import torch

from sfumato.gradients import Engine, ReferenceEngine, self_check

torch.set_num_threads(1)


def unet(lora: bool):
    diffusers = pytest.importorskip("diffusers")
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    model.set_attn_processor(AttnProcessor())
    if lora:
        from peft import LoraConfig

        model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    return model


def setting(which: str, draws: int, dtype, n=4):
    model = unet(which == "lora").to(dtype)
    keep = {"whole": "", "attention": "attentions", "lora": "lora_"}[which]
    trainable = {k: p for k, p in model.named_parameters() if keep in k}
    g = torch.Generator().manual_seed(3)
    if which == "lora":
        for k, p in trainable.items():
            if "lora_B" in k:
                p.data.copy_(torch.randn(p.shape, generator=g) * 0.1)
    x, target = (torch.randn(n, draws, 2, 4, 4, generator=g).to(dtype) for _ in range(2))
    time = torch.randint(0, 1000, (n, draws), generator=g)
    context = torch.randn(n, 3, 8, generator=g).to(dtype)

    def rows(i):
        out = model(x[i].flatten(0, 1), time[i].flatten(), context[i].repeat_interleave(draws, 0)).sample
        return (out - target[i].flatten(0, 1)).square().mean((1, 2, 3))

    return model, trainable, rows, torch.arange(n)


@pytest.mark.parametrize("which", ["whole", "attention", "lora"])
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
def test_parity(which, draws, dtype, bar):
    model, trainable, rows, batch = setting(which, draws, dtype)
    with ReferenceEngine(model, trainable) as engine:
        bound = float(engine.clipped_sum(rows, batch, draws=draws, clip=torch.ones_like)[1].median())

        def clip(norms):
            return bound / norms.clamp_min(bound)

        right, norms_r = engine.clipped_sum(rows, batch, draws=draws, clip=clip)
    whole = torch.cat([t.flatten() for t in right.values()]).norm()
    for strategy in ("auto", "keep", "ghost"):
        with Engine(model, trainable, strategy=strategy) as engine:
            for micro_batch in (None, 3) if strategy == "auto" else (None,):
                sums, norms = engine.clipped_sum(rows, batch, draws=draws, clip=clip, micro_batch=micro_batch)
                assert torch.allclose(norms, norms_r, rtol=bar, atol=0)
                for k in right:
                    assert (sums[k] - right[k]).norm() <= bar * max(right[k].norm(), 1e-3 * whole), k


def test_checkpointing_and_self_check():
    model, trainable, rows, batch = setting("attention", 3, torch.float32)
    with Engine(model, trainable) as engine:
        plain, norms = engine.clipped_sum(rows, batch, draws=3, clip=torch.ones_like)
    model.enable_gradient_checkpointing()
    model.train()
    with Engine(model, trainable) as engine:
        sums, again = engine.clipped_sum(rows, batch, draws=3, clip=torch.ones_like)
    assert torch.allclose(norms, again, rtol=1e-6)
    assert all(torch.allclose(sums[k], plain[k], rtol=1e-5, atol=1e-7) for k in sums)
    assert self_check(model, trainable, rows, batch, 3) == []


def test_merged_lora_is_noticed():
    model, trainable, rows, batch = setting("lora", 1, torch.float32)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    with Engine(model, trainable) as engine, pytest.raises(RuntimeError, match=r"not reached|do not depend"):
        engine.clipped_sum(rows, batch, clip=torch.ones_like)


def test_lora_starts_with_b_zero():
    model, trainable, rows, batch = setting("lora", 1, torch.float32)
    for k, p in trainable.items():
        if "lora_B" in k:
            p.data.zero_()
    assert self_check(model, trainable, rows, batch, 1) == []
