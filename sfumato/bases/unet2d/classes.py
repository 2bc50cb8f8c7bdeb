"""The same with a class table: its rows are added to the time's embedding."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...compute.device import HOST
from ...compute.stored import unpacked
from ..checks import INDEX_FILE
from ..classes import ClassBase, ClassTable, read_names, with_names
from ..conditioning import Conditioning, tensors
from ..weights import check_settings
from .pipeline import LatentUNet, PixelUNet, UNet2D


class WithClasses(ClassBase, UNet2D):
    """A U-Net whose table of classes stands beside it, so that a condition is a row of the table.

    diffusers keeps no names of classes: they are `id2label` in the pipeline's index, else `class0`
    and so on. A null class is the row with the empty name; without one the empty prompt is the
    table's mean.
    """

    def __post_init__(self):
        weight = unpacked(self.unet.class_embedding.weight.detach())
        self.unet.class_embedding = nn.Identity()
        file = self.info.folder / INDEX_FILE
        self.table = ClassTable(weight, *read_names(file, len(weight), None))

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts the table onto the device, too."""
        super().move(where, denoiser=denoiser)
        self.table.rows = self.table.rows.to(where)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The U-Net's prediction, given rows of the table."""
        return self.unet(noisy, time, tensors(condition)[""]).sample

    def whole_unet(self) -> Any:
        """The U-Net with its table back in it."""
        # the same weights
        whole = copy.deepcopy(self.unet, {id(p): p for p in self.unet.parameters()})
        rows = self.table.rows.to(HOST)
        whole.class_embedding = nn.Embedding.from_pretrained(rows.clone())
        whole.register_to_config(num_class_embeds=len(rows))
        return whole

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision, with names of classes in its index."""
        super().save(folder)
        index = with_names(check_settings(folder / INDEX_FILE), self.table)
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


@dataclass
class ClassPixelUNet(WithClasses, PixelUNet):
    """Class-conditional diffusion on pixels."""


@dataclass
class ClassLatentUNet(WithClasses, LatentUNet):
    """Class-conditional diffusion on latents."""


PixelUNet.with_classes = ClassPixelUNet
LatentUNet.with_classes = ClassLatentUNet
