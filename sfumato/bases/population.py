"""The file of a population: latents of public candidates, equally many of each class."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

from ..compute.device import on_host
from ..errors import ModelError

POPULATION_FILE = "population.safetensors"


def save_population(folder: Path, latents: torch.Tensor) -> None:
    """Writes latents [classes, P, C, h, w] in half precision, in which candidates are kept."""
    held = on_host(latents.detach()).half().contiguous()
    save_file({"latents": held}, folder / POPULATION_FILE)


def load_population(folder: Path) -> torch.Tensor:
    """Latents float32 [classes, P, C, h, w] in host memory.

    Raises:
        ModelError: The file is missing, does not read, or holds something else.
    """
    try:
        held = load_file(folder / POPULATION_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{POPULATION_FILE} of the run does not read: put it back") from error
    if set(held) != {"latents"} or held["latents"].ndim != 5:
        raise ModelError(f"{POPULATION_FILE} of the run holds no population: put it back")
    return held["latents"].float()
