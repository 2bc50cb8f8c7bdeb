"""Writing a pipeline folder that a plain call of diffusers opens, in half precision or single."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .weights import check_settings


def write_pipeline(pipe: Any, folder: Path) -> None:
    """Writes a diffusers pipeline in the formats of its parts.

    diffusers opens its own models in single precision unless it is told a `dtype`, transformers its
    models in that of their settings: both name the same here, or the parts do not fit together.

    Args:
        pipe: With whole tensors, as `compute.stored.halved` makes them.
        folder: A new folder.
    """
    pipe.save_pretrained(folder, safe_serialization=True)
    for file in sorted(folder.glob("*/config.json")):
        settings = check_settings(file)
        if "_class_name" not in settings:  # of transformers
            file.write_text(json.dumps(_single(settings), indent=2) + "\n", "utf-8")


def _single(settings: Any) -> Any:
    """Settings, and those of models within, that have their model opened in single precision."""
    if not isinstance(settings, dict):
        return settings
    return {
        name: "float32" if name == "dtype" and value is not None else _single(value)
        for name, value in settings.items()
    }
