"""The public model: the only room that knows diffusers, transformers and peft by name.

A part is loaded when it is asked for: whoever verifies a release does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import (
        KOHYA_FILE,
        LORA_FILE,
        add_lora,
        load_lora,
        lora_inputs,
        save_lora,
        write_kohya,
    )
    from .captions import caption_base
    from .cards import training_data
    from .checks import folder_digest
    from .contents import contents_of_files, made_contents, made_contents_of_files
    from .embeds import (
        EMBEDS_FILE,
        check_placeholders,
        embeds_files,
        load_embeds,
        name_placeholders,
        name_token,
        read_embeds,
        replace_embeds,
        save_embeds,
        shared_tokens,
        word_vectors,
        words_in,
    )
    from .files import COMPONENT_SETTINGS, left_by_system, weight_files
    from .interface import Base, BaseInfo, TextBase, text_base
    from .loda import LODA_FILE, LoDA, add_loda, branches, load_loda, save_loda
    from .open import (
        FAMILIES,
        base_info,
        bundled_bases,
        component_folders,
        copy_base,
        is_pipeline,
        load_base,
        open_adapted,
        origin_of,
        own_name,
        parts_without,
        pipeline_class,
        reads_prompts,
        resolve_base,
        told_classes,
        weights_of_base,
    )
    from .population import POPULATION_FILE, load_population, save_population
    from .schedules import is_scheduler
    from .scratch import PROPOSED, scratch_name
    from .stable_diffusion import around

_HOMES = {
    "Base": "interface",
    "BaseInfo": "interface",
    "COMPONENT_SETTINGS": "files",
    "EMBEDS_FILE": "embeds",
    "FAMILIES": "open",
    "KOHYA_FILE": "adapters",
    "LODA_FILE": "loda",
    "LORA_FILE": "adapters",
    "LoDA": "loda",
    "TextBase": "interface",
    "add_loda": "loda",
    "add_lora": "adapters",
    "around": "stable_diffusion",
    "base_info": "open",
    "branches": "loda",
    "bundled_bases": "open",
    "caption_base": "captions",
    "check_placeholders": "embeds",
    "component_folders": "open",
    "contents_of_files": "contents",
    "copy_base": "open",
    "embeds_files": "embeds",
    "folder_digest": "checks",
    "is_pipeline": "open",
    "is_scheduler": "schedules",
    "load_base": "open",
    "load_embeds": "embeds",
    "load_loda": "loda",
    "load_lora": "adapters",
    "lora_inputs": "adapters",
    "made_contents": "contents",
    "made_contents_of_files": "contents",
    "name_placeholders": "embeds",
    "name_token": "embeds",
    "open_adapted": "open",
    "POPULATION_FILE": "population",
    "PROPOSED": "scratch",
    "load_population": "population",
    "save_population": "population",
    "origin_of": "open",
    "parts_without": "open",
    "own_name": "open",
    "pipeline_class": "open",
    "read_embeds": "embeds",
    "reads_prompts": "open",
    "replace_embeds": "embeds",
    "resolve_base": "open",
    "save_embeds": "embeds",
    "scratch_name": "scratch",
    "save_loda": "loda",
    "save_lora": "adapters",
    "shared_tokens": "embeds",
    "text_base": "interface",
    "told_classes": "open",
    "training_data": "cards",
    "left_by_system": "files",
    "weight_files": "files",
    "weights_of_base": "open",
    "word_vectors": "embeds",
    "words_in": "embeds",
    "write_kohya": "adapters",
}

__all__ = [
    "COMPONENT_SETTINGS",
    "EMBEDS_FILE",
    "FAMILIES",
    "KOHYA_FILE",
    "LODA_FILE",
    "LORA_FILE",
    "Base",
    "BaseInfo",
    "PROPOSED",
    "LoDA",
    "TextBase",
    "add_loda",
    "add_lora",
    "around",
    "base_info",
    "branches",
    "bundled_bases",
    "caption_base",
    "check_placeholders",
    "component_folders",
    "contents_of_files",
    "copy_base",
    "embeds_files",
    "folder_digest",
    "is_pipeline",
    "is_scheduler",
    "load_base",
    "load_embeds",
    "load_loda",
    "load_lora",
    "lora_inputs",
    "made_contents",
    "left_by_system",
    "made_contents_of_files",
    "name_placeholders",
    "name_token",
    "open_adapted",
    "POPULATION_FILE",
    "load_population",
    "save_population",
    "origin_of",
    "parts_without",
    "own_name",
    "pipeline_class",
    "read_embeds",
    "reads_prompts",
    "replace_embeds",
    "resolve_base",
    "save_embeds",
    "scratch_name",
    "save_loda",
    "save_lora",
    "shared_tokens",
    "text_base",
    "told_classes",
    "training_data",
    "weight_files",
    "weights_of_base",
    "word_vectors",
    "words_in",
    "write_kohya",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
