"""The family's `Base`: the parts of a DiTPipeline, joined."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ...compute.device import HOST
from ...compute.stored import halved, unpacked
from ...errors import ModelError
from ..checks import INDEX_FILE, prediction_of
from ..classes import ClassBase, ClassTable, read_names, with_names
from ..conditioning import Conditioning, tensors
from ..facts import info_by_denoiser, settings_of
from ..interface import BaseInfo
from ..latents import AutoencoderBase, LatentScale, latent_scale
from ..loading import loading, read_models, read_scheduler, require_finite, require_schedule
from ..schedules import DiffusionBase
from ..transformers import TransformerNames
from ..weights import check_settings


class Place(nn.Module):
    """Stands where a block had its class table: hands on the block's vector of a row [B, L, D]."""

    def __init__(self, block: int):
        super().__init__()
        self.block = block

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, L, D] -> [B, D]."""
        return rows[:, self.block]


@dataclass
class DiT(TransformerNames, AutoencoderBase, DiffusionBase, ClassBase):
    """A DiTPipeline.

    Every block has a class table of its own; a row here is a class's vectors in all L of them,
    [L, D]. The row of the null class is the empty prompt. Of a denoiser with learned variance only
    the noise (the first half of its channels) is trained and used, as diffusers' pipeline does;
    the published objective adds a bound that trains the variance alone.
    """

    family: ClassVar = "dit"
    components: ClassVar = {
        "transformer": {"DiTTransformer2DModel"},
        "vae": {"AutoencoderKL"},
        "scheduler": None,
    }
    prefix: ClassVar = "transformer"

    info: BaseInfo
    transformer: Any
    vae: Any
    scheduler: Any

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        info = info_by_denoiser(
            cls,
            name,
            folder,
            channels=4,
            side=32,
            condition="class",
            prediction=prediction_of(folder),
        )
        channels = info.latent_shape[0]
        out = settings_of(folder, "transformer").get("out_channels") or channels
        if out not in (channels, 2 * channels):
            raise ModelError(
                f"the denoiser of {folder} takes {channels} channels and gives {str(out)[:20]}:"
                " they do not fit"
            )
        return info

    @classmethod
    def load(cls, info: BaseInfo) -> DiT:
        """Opens transformer, autoencoder and schedule."""
        from diffusers import AutoencoderKL, DiTTransformer2DModel

        folder = info.folder
        with loading(folder):
            models = read_models(
                folder, {"transformer": DiTTransformer2DModel, "vae": AutoencoderKL}
            )
            scheduler = read_scheduler(folder)
        times = getattr(scheduler.config, "num_train_timesteps", 0)
        require_schedule(folder, scheduler, times)
        require_finite(folder, models)
        return cls(info, **models, scheduler=scheduler)

    def __post_init__(self):
        tables = []
        for number, embedding in enumerate(self._embeddings(self.transformer)):
            tables.append(unpacked(embedding.class_embedder.embedding_table.weight.detach()))
            embedding.class_embedder = Place(number)
        rows = torch.stack(tables, 1)
        names = read_names(self.info.folder / INDEX_FILE, len(rows), len(rows) - 1)
        self.table = ClassTable(rows, *names)

    @staticmethod
    def _embeddings(transformer: Any) -> list[Any]:
        """What joins time and class, block by block."""
        return [block.norm1.emb for block in transformer.transformer_blocks]

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        return self.transformer

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts transformer, autoencoder, class table and the noise schedule onto a device."""
        super().move(where, denoiser=denoiser)
        self.vae.to(where)
        self.table.rows = self.table.rows.to(where)

    def park(self, *, prompts: bool) -> None:
        """Takes the autoencoder off the device."""
        self.vae.to(HOST)

    @property
    def scale(self) -> LatentScale:
        """The factor in the autoencoder's settings."""
        return latent_scale(self.vae)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's prediction of the noise, given rows of the table."""
        # every block calls its embedding with the times, so they are a row each
        times = time.expand(len(noisy))
        found = self.transformer(noisy, times, tensors(condition)[""]).sample
        return found[:, : noisy.shape[1]]

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision, with names of classes in its index.

        New classes follow the null class, whose row keeps its number: diffusers' pipeline takes row
        1000 for it, whatever the number of classes.
        """
        from diffusers import DiTPipeline

        held = {id(p): p for p in self.transformer.parameters()}  # the same weights
        whole_again = copy.deepcopy(self.transformer, held)
        rows = self.table.rows.to(HOST)
        for number, embedding in enumerate(self._embeddings(whole_again)):
            embedding.class_embedder = _labels(rows[:, number].clone())
        whole_again.register_to_config(num_embeds_ada_norm=len(rows) - 1)
        pipe = DiTPipeline(
            transformer=halved(whole_again),
            vae=halved(self.vae),
            scheduler=self.scheduler,
        )
        pipe.save_pretrained(folder, safe_serialization=True)
        index = with_names(check_settings(folder / INDEX_FILE), self.table)
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _labels(rows: torch.Tensor) -> nn.Module:
    """The class table of a block as diffusers has it."""
    from diffusers.models.embeddings import LabelEmbedding

    # with a null class there is one row more than classes
    made = LabelEmbedding(len(rows) - 1, rows.shape[1], dropout_prob=0.1)
    made.embedding_table.weight.data = rows
    return made
