"""Tiny random pipelines of every family, as diffusers' own classes save them.

`PIPELINES`: name -> a function that writes a folder and returns it. All are of 16x16 pictures, with
random weights from a fixed seed, so that a table test can loop over them.
"""

# diffusers says less than it takes.
# pyright: reportArgumentType=false

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sfumato.bases.tiny import make_tiny_base, make_tiny_tokenizer

SIDE = 16
# Class names of the class-conditional ones; those of `make_tiny_images` are among them.
NAMES = {"0": "circle, ring", "1": "cross", "2": "square", "3": "great star", "4": ""}


def save(pipe: Any, folder: Path, **index: Any) -> Path:
    """Saves a pipeline; `index` goes into its model_index.json."""
    pipe.save_pretrained(folder, safe_serialization=True)
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | index, indent=2))
    return folder


def seeded(make: Callable[..., Any], **settings: Any) -> Any:
    """A diffusers model with random weights from a fixed seed.

    Zeros get random numbers, too: a model that begins as the identity would hide what its
    condition does.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(**settings).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
    return model


def schedule(kind: str = "DDPMScheduler", **settings: Any) -> Any:
    """A variance-preserving scheduler that leaves samples unclipped, with trailing steps."""
    import diffusers

    given = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}
    return getattr(diffusers, kind)(**given, timestep_spacing="trailing", **settings)


def unet2d(side: int = SIDE, channels: int = 3, **settings: Any) -> Any:
    """A UNet2DModel of two levels, the inner one with attention."""
    from diffusers import UNet2DModel

    return seeded(
        UNet2DModel,
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        **settings,
    )


def kl(channels: int = 4, **settings: Any) -> Any:
    """An AutoencoderKL from 16x16 pixels to latents [channels, 8, 8]."""
    from diffusers import AutoencoderKL

    return seeded(
        AutoencoderKL,
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=SIDE,
        mid_block_add_attention=False,
        **settings,
    )


def vq(channels: int = 3) -> Any:
    """A VQModel from 16x16 pixels to latents [channels, 8, 8]."""
    from diffusers import VQModel

    return seeded(
        VQModel,
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        num_vq_embeddings=32,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=0.5,
    )


def stable_diffusion(folder: Path) -> Path:
    return make_tiny_base(folder)


def latent_consistency(folder: Path) -> Path:
    """Stable Diffusion that takes the guidance scale itself, with its own scheduler."""
    from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    pipe = StableDiffusionPipeline.from_pretrained(make_tiny_base(folder))
    settings = {name: value for name, value in pipe.unet.config.items() if name[0] != "_"}
    unet = seeded(UNet2DConditionModel, **settings | {"time_cond_proj_dim": 12})
    scheduler = LCMScheduler.from_config(schedule().config)
    pipe.register_modules(unet=unet, scheduler=scheduler)
    return save(pipe, folder)


def ddpm(folder: Path) -> Path:
    from diffusers import DDPMPipeline

    return save(DDPMPipeline(unet2d(), schedule()), folder)


def ddim_v(folder: Path) -> Path:
    from diffusers import DDIMPipeline

    scheduler = schedule("DDIMScheduler", prediction_type="v_prediction")
    return save(DDIMPipeline(unet2d(), scheduler), folder)


def ddpm_sample(folder: Path) -> Path:
    """Predicts the picture, of one colour."""
    from diffusers import DDPMPipeline

    return save(DDPMPipeline(unet2d(channels=1), schedule(prediction_type="sample")), folder)


def ldm_vq(folder: Path) -> Path:
    from diffusers import LDMPipeline

    return save(LDMPipeline(vq(), unet2d(8), schedule("DDIMScheduler")), folder)


def ldm_kl(folder: Path) -> Path:
    from diffusers import LDMPipeline

    return save(LDMPipeline(kl(3), unet2d(8), schedule("DDIMScheduler")), folder)


def ddpm_classes(folder: Path) -> Path:
    """Class-conditional pixels; the last row of the table is the null class."""
    from diffusers import DDPMPipeline

    return save(
        DDPMPipeline(unet2d(num_class_embeds=len(NAMES)), schedule()), folder, id2label=NAMES
    )


def ldm_classes(folder: Path) -> Path:
    """Class-conditional latents of a VQModel, without names and without a null class."""
    from diffusers import LDMPipeline

    return save(LDMPipeline(vq(), unet2d(8, num_class_embeds=3), schedule("DDIMScheduler")), folder)


def dit(folder: Path) -> Path:
    """1,000 classes and the null row, since diffusers' pipeline counts on it, learned variance."""
    from diffusers import DiTPipeline, DiTTransformer2DModel

    denoiser = seeded(
        DiTTransformer2DModel,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    names = {str(i): f"class {i}" for i in range(1000)}
    names |= {i: name for i, name in NAMES.items() if name}
    return save(DiTPipeline(denoiser, kl(), schedule("DDIMScheduler")), folder, id2label=names)


def clip(tokenizer: Any, width: int, *, projected: bool = False, **settings: Any) -> Any:
    """A CLIP text encoder of two layers; `projected` pools a text as SDXL's second does."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    given = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": tokenizer.model_max_length,
        "projection_dim": width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPTextConfig(**given | settings)
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def stable_diffusion_xl(folder: Path, **index: Any) -> Path:
    """Two encoders of different width; the second finds a text's end as the published one does."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    tokenizer, second = make_tiny_tokenizer(), make_tiny_tokenizer()
    second.pad_token = "!"
    unet = seeded(
        UNet2DConditionModel,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16 + 12,
        attention_head_dim=2,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=12 + 6 * 8,
    )
    statistics = {"latents_mean": (0.1, -0.2, 0.3, 0.0), "latents_std": (1.5, 0.5, 2.0, 1.0)}
    pipe = StableDiffusionXLPipeline(
        kl(scaling_factor=0.8, **statistics),
        clip(tokenizer, 16),
        clip(second, 12, projected=True, eos_token_id=2),
        tokenizer,
        second,
        unet,
        schedule("DDIMScheduler"),
        add_watermarker=False,
    )
    return save(pipe, folder, **index)


PIPELINES: dict[str, Callable[[Path], Path]] = {
    "stable_diffusion": stable_diffusion,
    "stable_diffusion_xl": stable_diffusion_xl,
    "latent_consistency": latent_consistency,
    "ddpm": ddpm,
    "ddim_v": ddim_v,
    "ddpm_sample": ddpm_sample,
    "ldm_vq": ldm_vq,
    "ldm_kl": ldm_kl,
    "ddpm_classes": ddpm_classes,
    "ldm_classes": ldm_classes,
    "dit": dit,
}
