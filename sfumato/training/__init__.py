"""The one DP loop, the per-record objective, the latents it reads and the checkpoints it writes."""

from __future__ import annotations

from .checkpoint import KEEP, Standing, State, latest_checkpoint, write_checkpoint, write_file
from .control import train_without_privacy
from .data import LatentData, UnitBatch, build_latents, open_latents
from .lean import lean
from .loop import Progress, open_engine, require_grid, train
from .objective import Batch, denoising_losses
from .texts import Texts, write_texts

__all__ = [
    "KEEP",
    "Batch",
    "LatentData",
    "Progress",
    "Standing",
    "State",
    "Texts",
    "UnitBatch",
    "build_latents",
    "denoising_losses",
    "latest_checkpoint",
    "lean",
    "open_engine",
    "open_latents",
    "require_grid",
    "train",
    "train_without_privacy",
    "write_checkpoint",
    "write_file",
    "write_texts",
]
