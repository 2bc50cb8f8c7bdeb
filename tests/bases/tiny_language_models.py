"""Tiny random pipelines of transformers that a language model tells what to draw."""

# diffusers and transformers say less than they take.
# pyright: reportArgumentType=false, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bases.tiny_encoders import gemma, qwen_tokenizer, sizes
from tests.bases.tiny_pipelines import SIDE, kl, save, seeded


def euler(**settings: Any) -> Any:
    """The scheduler of these families."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def lumina_2(folder: Path, **schedule: Any) -> Path:
    """A shift that is the same for all sizes, as published folders have."""
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = seeded(
        Lumina2Transformer2DModel,
        sample_size=8,
        in_channels=4,
        hidden_size=16,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 32, 32),
        cap_feat_dim=16,
    )
    vae = kl(shift_factor=0.1, scaling_factor=0.4)
    encoder, tokenizer = gemma()
    tokenizer.add_bos_token = True  # as published ones do
    return save(
        Lumina2Pipeline(transformer, euler(**schedule or {"shift": 6.0}), vae, encoder, tokenizer),
        folder,
    )


def lumina_2_dynamic(folder: Path) -> Path:
    """A shift by size, as the pipeline reads one."""
    return lumina_2(folder, use_dynamic_shifting=True)


def z_image(folder: Path, **schedule: Any) -> Path:
    """A shift that is the same for all sizes, as published folders have."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    transformer = seeded(
        ZImageTransformer2DModel,
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[1024, 32, 32],
    )
    tokenizer = qwen_tokenizer()
    config = Qwen3Config(**sizes(tokenizer, num_hidden_layers=2))
    encoder = seeded(Qwen3Model, config=config)
    vae = kl(shift_factor=0.1, scaling_factor=0.4)
    return save(
        ZImagePipeline(euler(**schedule or {"shift": 3.0}), vae, encoder, tokenizer, transformer),
        folder,
    )


def z_image_dynamic(folder: Path) -> Path:
    """A shift by size, as the pipeline reads one."""
    return z_image(folder, use_dynamic_shifting=True)


def qwen_image(folder: Path) -> Path:
    """A shift by size, and an autoencoder of videos with statistics per channel."""
    from diffusers import (
        AutoencoderKLQwenImage,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    transformer = seeded(
        QwenImageTransformer2DModel,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    vae = seeded(
        AutoencoderKLQwenImage,
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.2, 0.0, 0.1, 0.3],
        latents_std=[0.5, 1.0, 1.5, 0.8],
    )
    vae.register_to_config(sample_size=SIDE)
    tokenizer = qwen_tokenizer()
    number = len(tokenizer) - 1
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        image_token_id=number,
        video_token_id=number,
        vision_start_token_id=number,
        vision_end_token_id=number,
    )
    encoder = seeded(Qwen2_5_VLForConditionalGeneration, config=config)
    scheduler = euler(use_dynamic_shifting=True, shift_terminal=0.02)
    return save(QwenImagePipeline(scheduler, vae, encoder, tokenizer, transformer), folder)


def prx(folder: Path) -> Path:
    """The settings of its text encoder are those of a whole T5Gemma, as in published folders."""
    from diffusers import PRXPipeline, PRXTransformer2DModel
    from transformers.models.t5gemma.configuration_t5gemma import (
        T5GemmaConfig,
        T5GemmaModuleConfig,
    )
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    transformer = seeded(
        PRXTransformer2DModel,
        in_channels=4,
        context_in_dim=16,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[4, 4],
    )
    _, tokenizer = gemma()
    tokenizer.add_bos_token = True
    tokenizer.model_max_length = 32
    part = T5GemmaModuleConfig(**sizes(tokenizer))
    config = T5GemmaConfig(encoder=part, decoder=part, vocab_size=len(tokenizer))
    encoder = seeded(T5GemmaEncoder, config=config.encoder)
    vae = kl(shift_factor=0.1, scaling_factor=0.4)
    pipe = PRXPipeline(
        transformer, euler(shift=3.0), encoder, tokenizer, vae, default_sample_size=SIDE
    )
    save(pipe, folder)
    config.save_pretrained(folder / "text_encoder")
    return folder


LANGUAGE_MODELS: dict[str, Callable[[Path], Path]] = {
    "lumina_2": lumina_2,
    "lumina_2_dynamic": lumina_2_dynamic,
    "z_image": z_image,
    "z_image_dynamic": z_image_dynamic,
    "qwen_image": qwen_image,
    "prx": prx,
}
