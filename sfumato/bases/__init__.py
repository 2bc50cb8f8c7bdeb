"""The public model: the only room that knows diffusers, transformers and peft by name."""

from __future__ import annotations

from .denoising import make_denoiser
from .latents import decode_latents, embed_prompts, encode_images, tokenize, unknown_words
from .pipeline import Base, bundled_bases, folder_digest, load_base, make_scheduler, resolve_base
from .saving import LORA_FILE, add_lora, as_pipeline, load_lora, save_lora, save_pipeline
from .tokens import PromptEncoder, add_placeholders, write_embeddings

__all__ = [
    "LORA_FILE",
    "Base",
    "PromptEncoder",
    "add_lora",
    "add_placeholders",
    "as_pipeline",
    "bundled_bases",
    "decode_latents",
    "embed_prompts",
    "encode_images",
    "folder_digest",
    "load_base",
    "load_lora",
    "make_denoiser",
    "make_scheduler",
    "resolve_base",
    "save_lora",
    "save_pipeline",
    "tokenize",
    "unknown_words",
    "write_embeddings",
]
