"""Tiny random pipelines of transformers that a language model tells what to draw."""

# diffusers and transformers say less than they take.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bases.tiny_pipelines import kl, save, seeded
from tests.bases.tiny_transformers import gemma

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def euler(**settings: Any) -> Any:
    """The scheduler of these families."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def qwen_tokenizer() -> Any:
    """Bytes, and the marks of a chat."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *marks])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], extra_special_tokens=["<|im_start|>", "<|im_end|>"]
    )
    tokenizer.chat_template = CHAT
    return tokenizer


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
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    encoder = seeded(Qwen3Model, config=config)
    vae = kl(shift_factor=0.1, scaling_factor=0.4)
    return save(
        ZImagePipeline(euler(**schedule or {"shift": 3.0}), vae, encoder, tokenizer, transformer),
        folder,
    )


def z_image_dynamic(folder: Path) -> Path:
    """A shift by size, as the pipeline reads one."""
    return z_image(folder, use_dynamic_shifting=True)


LANGUAGE_MODELS: dict[str, Callable[[Path], Path]] = {
    "lumina_2": lumina_2,
    "lumina_2_dynamic": lumina_2_dynamic,
    "z_image": z_image,
    "z_image_dynamic": z_image_dynamic,
}
