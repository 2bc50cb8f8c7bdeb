"""Tiny random pipelines whose denoiser is a transformer: `TRANSFORMERS`, as `tiny_pipelines`."""

# diffusers and transformers say less than they take.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfumato.bases.tiny import WORDS, make_tiny_tokenizer
from tests.bases.tiny_pipelines import kl, save, seeded


def clip(width: int = 16, **settings: Any) -> tuple[Any, Any]:
    """A CLIP text encoder with a projection, and its tokenizer of 8 tokens."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer = make_tiny_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return seeded(settings.pop("make", CLIPTextModelWithProjection), config=config), tokenizer


def t5(width: int = 32) -> tuple[Any, Any]:
    """A T5 encoder, and its tokenizer of the words of `WORDS` and letters."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = sorted({f"\u2581{word}" for text in WORDS for word in text.split()})
    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -1.0) for word in words]
    vocabulary += [(word, -9.0) for word in ("\u2581", *letters)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return seeded(T5EncoderModel, config=config), tokenizer


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


TRANSFORMERS: dict[str, Callable[[Path], Path]] = {
    "stable_diffusion_3": stable_diffusion_3,
    "stable_diffusion_3_without_t5": stable_diffusion_3_without_t5,
}
