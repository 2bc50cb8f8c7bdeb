"""Checkpoints in one safetensors file, as programs other than diffusers keep them, to a folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ModelError, SfumatoError
from .checks import INDEX_FILE, check_folder, folder_digest
from .files import written_whole
from .interface import Base
from .loading import loading
from .saving import write_pipeline
from .unknown import what_it_is
from .weights import check_settings, check_weights

NOT_LOADED = ("model_ema.", "cond_stage_model.logit_scale")


def is_single_file(path: Path) -> bool:
    """Whether a path is of one file with weights."""
    return path.suffix == ".safetensors" and path.is_file()


def folder_from_file(
    file: Path, config: Path, folder: Path, families: dict[str, type[Base]]
) -> str:
    """Makes a pipeline folder of a checkpoint in one file, by diffusers' own `from_single_file`.

    Nothing is downloaded: settings and tokenizers come from `config`, a folder of the same model
    as diffusers saves it, which needs no weights. Numbers keep the precision of the file.

    Args:
        file: A .safetensors file.
        config: The folder of settings.
        folder: New; nothing is overwritten.
        families: Pipeline class -> family.

    Returns:
        The folder's digest.

    Raises:
        SfumatoError: There is no such file or folder, or `folder` is there already.
        ModelError: They do not belong together.
        MachineError: It cannot be written.
    """
    if not is_single_file(file):
        raise SfumatoError(f"no checkpoint at {file}: give one .safetensors file")
    if folder.exists():
        raise SfumatoError(f"{folder} already exists: name a new folder (nothing is overwritten)")
    if not (config / INDEX_FILE).is_file():
        raise ModelError(f"--base-config {config}: a pipeline folder of the same model, with its"
                         f" {INDEX_FILE}; weights are not needed")  # fmt: skip
    index = check_settings(config / INDEX_FILE)
    kind = str(index.get("_class_name"))
    if kind not in families:
        raise ModelError(what_it_is(config, index, families))
    check_folder(config, index, families[kind])
    held = {name: entry for name, entry in check_weights(file).items() if _loaded(name)}
    pipe = _open(file, config, kind, held)
    with written_whole(folder) as part:
        write_pipeline(pipe, part)
    return folder_digest(folder)


def _loaded(name: str) -> bool:
    return not name.startswith(NOT_LOADED)


def _open(file: Path, config: Path, kind: str, held: dict[str, dict]) -> Any:
    """The pipeline in a checkpoint; ModelError if some of its weights are not in the file."""
    import diffusers

    halves = {"F16": torch.float16, "BF16": torch.bfloat16}
    types = {entry["dtype"] for entry in held.values()} - {"I64"}
    dtype = halves.get(next(iter(types)), torch.float32) if len(types) == 1 else torch.float32
    off = {
        name: None
        for name in ("safety_checker", "feature_extractor", "image_encoder")
        if name in check_settings(config / INDEX_FILE)
    }
    bars = diffusers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with loading(file):
            pipe = getattr(diffusers, kind).from_single_file(
                str(file), config=str(config), local_files_only=True, torch_dtype=dtype, **off
            )
    finally:
        if shown:
            bars.enable_progress_bar()
    models = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    needed = sum(p.numel() for model in models for p in model.parameters())
    given = sum(math.prod(entry["shape"]) for entry in held.values())
    meta = any(p.is_meta for model in models for p in model.parameters())
    if meta or needed > given:
        raise ModelError(
            f"{file} does not hold all weights of a {kind} as {config} describes it: take the"
            " settings of the same model"
        )
    return pipe
