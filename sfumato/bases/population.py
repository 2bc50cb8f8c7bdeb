"""The file of a population: latents of public candidates, equally many of each class."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

from ..compute.device import on_host
from ..errors import ModelError

POPULATION_FILE = "population.safetensors"


def save_population(folder: Path, latents: torch.Tensor, strength: float) -> None:
    """Writes latents in half precision, in which candidates are kept.

    Args:
        folder: Where.
        latents: [classes, P, C, h, w].
        strength: Share of a sampler's steps by which further pictures vary a member.
    """
    held = on_host(latents.detach()).half().contiguous()
    much = torch.tensor(strength, dtype=torch.float64)
    save_file({"latents": held, "strength": much}, folder / POPULATION_FILE)


def load_population(folder: Path) -> tuple[torch.Tensor, float]:
    """Latents float32 [classes, P, C, h, w] in host memory, and how much further pictures vary.

    Raises:
        ModelError: The file is missing, does not read, or holds something else.
    """
    try:
        held = load_file(folder / POPULATION_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{POPULATION_FILE} of the run does not read: put it back") from error
    if set(held) != {"latents", "strength"} or held["latents"].ndim != 5:
        raise ModelError(f"{POPULATION_FILE} of the run holds no population: put it back")
    return held["latents"].float(), float(held["strength"])
