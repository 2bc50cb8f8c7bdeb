"""Pictures -> latents and prompts -> embeddings: public functions of one record at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import SfumatoError
from .pipeline import Base

SMALL_VOCABULARY = 10_000


@torch.no_grad()
def encode_images(base: Base, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [B, R, R, 3] -> mean and standard deviation of the scaled latents, float32 [B, C, h, w]
    each.

    Both are kept, so that the posterior can be sampled anew in every draw.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        posterior = base.vae.encode(pixels).latent_dist
    scale = base.vae.config.scaling_factor
    return posterior.mean.float() * scale, posterior.std.float() * scale


@torch.no_grad()
def decode_latents(base: Base, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents [B, C, h, w] -> uint8 pictures [B, R, R, 3]."""
    with torch.autocast("cpu", torch.bfloat16):
        pixels = base.vae.decode(latents / base.vae.config.scaling_factor).sample
    return (
        ((pixels.float() + 1) * 127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .numpy()
    )


def tokenize(base: Base, prompts: Sequence[str]) -> torch.Tensor:
    """Token ids int64 [P, L]; SfumatoError where a prompt is longer than the encoder reads."""
    longest = base.tokenizer.model_max_length
    prompts = [every_vector(base, prompt) for prompt in prompts]
    for prompt in prompts:
        if len(base.tokenizer(prompt, truncation=False, verbose=False).input_ids) > longest:
            raise SfumatoError(
                f"the prompt {prompt[:60]!r} is longer than the base's {longest} tokens: shorten it"
            )
    return base.tokenizer(
        list(prompts), padding="max_length", max_length=longest, return_tensors="pt"
    ).input_ids


def every_vector(base: Base, prompt: str) -> str:
    """The prompt with `<token> <token>_1 ...` for an added token of several vectors, as diffusers'
    pipelines write it.
    """
    added = base.tokenizer.added_tokens_encoder
    for token in added:
        if f"{token}_1" in added and token in prompt:
            count = next(i for i in range(1, len(added) + 1) if f"{token}_{i}" not in added)
            prompt = prompt.replace(
                token, " ".join([token, *(f"{token}_{i}" for i in range(1, count))])
            )
    return prompt


@torch.no_grad()
def embed_prompts(base: Base, prompts: Sequence[str]) -> torch.Tensor:
    """Prompt embeddings float32 [P, L, D], as the pipeline itself computes them."""
    return base.text_encoder(tokenize(base, prompts)).last_hidden_state


def unknown_words(base: Base, prompts: Sequence[str]) -> list[str]:
    """Words that the base's vocabulary does not hold whole, so that it was never taught them.

    A small vocabulary holds digits and signs only as its byte alphabet, not as words.
    """
    words = sorted({w for prompt in prompts for w in prompt.split()})
    small = len(base.tokenizer) < SMALL_VOCABULARY
    return [
        w
        for w in words
        if len(base.tokenizer(w, add_special_tokens=False).input_ids) != 1
        or (small and len(w) == 1 and not w.isalpha())
    ]
