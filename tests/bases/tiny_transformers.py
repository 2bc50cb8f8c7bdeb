"""Tiny random pipelines whose denoiser is a transformer: `TRANSFORMERS`, as `tiny_pipelines`."""

# diffusers and transformers say less than they take.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.bases.tiny_encoders import clip, gemma, qwen, t5
from tests.bases.tiny_pipelines import kl, save, seeded


def stable_diffusion_3(folder: Path, *, third: bool = True, **settings: Any) -> Path:
    """Two CLIP encoders and T5; 3.5's norms of queries and keys, and double attention."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = seeded(
        SD3Transformer2DModel,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
        **{"qk_norm": "rms_norm", "dual_attention_layers": (0,)} | settings,
    )
    (first, one), (second, two) = clip(), clip()
    last, three = t5() if third else (None, None)
    pipe = StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        kl(shift_factor=0.1, scaling_factor=1.5),
        first,
        one,
        second,
        two,
        last,
        three,
    )
    return save(pipe, folder)


def stable_diffusion_3_without_t5(folder: Path) -> Path:
    """Version 3.0's blocks, and no third text encoder."""
    return stable_diffusion_3(folder, third=False, qk_norm=None, dual_attention_layers=())


def pixart_sigma(folder: Path) -> Path:
    """Learned variance, and DPM-Solver on a linear schedule."""
    from diffusers import (
        DPMSolverMultistepScheduler,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )

    transformer = seeded(
        PixArtTransformer2DModel,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=32,
    )
    encoder, tokenizer = t5()
    scheduler = DPMSolverMultistepScheduler(timestep_spacing="trailing")
    return save(PixArtSigmaPipeline(tokenizer, encoder, kl(), transformer, scheduler), folder)


def flux(folder: Path, *, guidance_embeds: bool = True) -> Path:
    """[dev]: embedded guidance, a shift by size."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = seeded(
        FluxTransformer2DModel,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=guidance_embeds,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0 if guidance_embeds else 1.0, use_dynamic_shifting=guidance_embeds
    )
    clips, t5s = clip(projected=False), t5()
    vae = kl(shift_factor=0.1, scaling_factor=0.4)
    return save(FluxPipeline(scheduler, vae, *clips, *t5s, transformer), folder)


def flux_schnell(folder: Path) -> Path:
    """[schnell]: neither."""
    return flux(folder, guidance_embeds=False)


def dc(channels: int = 4) -> Any:
    """An AutoencoderDC from 32x32 pixels, the least that SanaPipeline draws, to 8x8 latents."""
    from diffusers import AutoencoderDC

    return seeded(
        AutoencoderDC,
        latent_channels=channels,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def sana(folder: Path) -> Path:
    """With the DPM-Solver set to flows that published folders hold."""
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    transformer = seeded(
        SanaTransformer2DModel,
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
    )
    encoder, tokenizer = gemma()
    scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    return save(SanaPipeline(tokenizer, encoder, dc(), transformer, scheduler), folder)


def flux2_klein(folder: Path, *, is_distilled: bool = False) -> Path:
    """Latents of whole patches, with statistics of their own."""
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    transformer = seeded(
        Flux2Transformer2DModel,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    vae = seeded(
        AutoencoderKLFlux2,
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
        mid_block_add_attention=False,
    )
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    encoder, tokenizer = qwen()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = Flux2KleinPipeline(
        scheduler, vae, encoder, tokenizer, transformer, is_distilled=is_distilled
    )
    return save(pipe, folder)


def flux2_klein_distilled(folder: Path) -> Path:
    """Drawn without guidance."""
    return flux2_klein(folder, is_distilled=True)


TRANSFORMERS: dict[str, Callable[[Path], Path]] = {
    "stable_diffusion_3": stable_diffusion_3,
    "stable_diffusion_3_without_t5": stable_diffusion_3_without_t5,
    "pixart_sigma": pixart_sigma,
    "flux": flux,
    "flux_schnell": flux_schnell,
    "sana": sana,
    "flux2_klein": flux2_klein,
    "flux2_klein_distilled": flux2_klein_distilled,
}
