"""`methods` and `bases`: what there is to choose from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..methods import METHODS
from ..options.arguments import checked


def methods() -> dict[str, str]:
    """Name -> one line for each method: the first paragraph of its module."""
    return {name: _first_line(function) for name, function in METHODS.items()}


def bases() -> dict[str, str]:
    """Name -> one line for each bundled base: the first of its model card's text."""
    from ..bases import bundled_bases  # here: the methods are named without torch

    found: dict[str, str] = {}
    for name, folder in bundled_bases().items():
        lines = (
            (folder / "README.md").read_text(encoding="utf-8").partition("\n# ")[2].splitlines()[1:]
        )
        line = next((line for line in lines if line.strip()), name)
        # the card lists them, this line does not
        found[name] = re.sub(r"the (public \w+(?: \w+)?) below", r"\1", line)
    return found


@checked
def copy_base(name: str, folder: str | Path, *, base_config: str | Path | None = None) -> str:
    """Copy a bundled base into a new folder, for those who get a LoRA or tokens made for it.

    Args:
        name: One of `bases()`, or a checkpoint in one .safetensors file, of which a folder is made.
        folder: A new folder; any diffusers tool opens it.
        base_config: For a checkpoint: a pipeline folder of the same model, with or without weights.

    Returns:
        The base's digest, as certificates and cards name it.

    Raises:
        SfumatoError: For a name that is not bundled, or a folder that is there already.
        ModelError: A checkpoint and settings that do not belong together.
    """
    from ..bases import copy_base  # here: the methods are named without torch

    return copy_base(name, folder, base_config)


def _first_line(function: Callable[..., Any]) -> str:
    import sys

    text = sys.modules[function.__module__].__doc__ or ""
    return " ".join(text.strip().partition("\n\n")[0].split())
