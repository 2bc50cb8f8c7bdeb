"""The public model: the only room that knows diffusers, transformers and peft by name."""

from __future__ import annotations

from .contents import contents_of_files, made_contents, made_contents_of_files
from .denoising import make_denoiser
from .exported import load_base, weights_of_base
from .files import weight_files
from .latents import decode_latents, embed_prompts, encode_images, tokenize, unknown_words
from .loda import (
    LODA_FILE,
    LoDA,
    add_loda,
    branches,
    load_loda,
    open_adapted,
    remove_loda,
    save_loda,
)
from .pipeline import Base, around, bundled_bases, folder_digest, make_scheduler, resolve_base
from .saving import (
    LORA_FILE,
    add_lora,
    as_pipeline,
    load_lora,
    lora_inputs,
    save_lora,
    save_pipeline,
)
from .tokens import PromptEncoder, add_placeholders, name_placeholders, write_embeddings
from .vectors import (
    EMBEDS_FILE,
    VectorEncoder,
    check_placeholders,
    embeds_files,
    load_embeds,
    read_embeds,
    replace_embeds,
    save_embeds,
    word_vectors,
)

__all__ = [
    "EMBEDS_FILE",
    "LODA_FILE",
    "LORA_FILE",
    "Base",
    "LoDA",
    "PromptEncoder",
    "VectorEncoder",
    "add_loda",
    "add_lora",
    "add_placeholders",
    "around",
    "as_pipeline",
    "branches",
    "bundled_bases",
    "check_placeholders",
    "contents_of_files",
    "decode_latents",
    "embed_prompts",
    "embeds_files",
    "encode_images",
    "folder_digest",
    "load_base",
    "load_embeds",
    "load_loda",
    "load_lora",
    "lora_inputs",
    "made_contents",
    "made_contents_of_files",
    "make_denoiser",
    "make_scheduler",
    "name_placeholders",
    "open_adapted",
    "read_embeds",
    "remove_loda",
    "replace_embeds",
    "resolve_base",
    "save_embeds",
    "save_loda",
    "save_lora",
    "save_pipeline",
    "tokenize",
    "unknown_words",
    "weight_files",
    "weights_of_base",
    "word_vectors",
    "write_embeddings",
]
