"""A model family of one's own: unconditional diffusion on pixels.

DDPM (Ho et al., arXiv 2006.11239), in the folders that diffusers' DDPMPipeline saves.

    python examples/family.py BASE IMAGES RUN

adapts the pipeline in BASE to the images in IMAGES by DP-SGD on all weights. In the package itself
this file would be a folder of `sfumato/bases/` and the last line of it a line of
`sfumato/bases/open.py`, in whose place it stands here: the family of `sfumato/bases/unet2d/` does
more with such a folder.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

import sfumato
from sfumato.bases import FAMILIES, Base, BaseInfo
from sfumato.bases.checks import facts_of_files, prediction_of, whole
from sfumato.bases.loading import (
    loading,
    read_models,
    read_scheduler,
    require_finite,
    require_schedule,
)
from sfumato.bases.pixels import from_bytes, to_bytes
from sfumato.bases.schedules import corrupt, make_sampler
from sfumato.bases.unets import UNetNames
from sfumato.bases.weights import check_settings


@dataclass
class PixelDiffusion(UNetNames, Base):
    """A DDPMPipeline: its latents are the pixels themselves, and it is told nothing."""

    family: ClassVar = "pixel-diffusion"
    components: ClassVar = {"unet": {"UNet2DModel"}, "scheduler": None}
    prefix: ClassVar = "unet"

    info: BaseInfo
    unet: Any
    scheduler: Any

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        file = folder / "unet" / "config.json"
        settings = check_settings(file)
        side, channels = whole(file, settings, "sample_size", 0), 3
        if whole(file, settings, "in_channels", channels) != channels:
            raise sfumato.SfumatoError(f"{folder} does not draw pictures in three colours")
        return BaseInfo(
            name=name,
            family=cls.family,
            resolution=side,
            latent_shape=(channels, side, side),
            condition="none",
            prediction=prediction_of(folder),
            **facts_of_files(folder),
        )

    @classmethod
    def load(cls, info: BaseInfo) -> PixelDiffusion:
        from diffusers import UNet2DModel

        with loading(info.folder):
            models = read_models(info.folder, {"unet": UNet2DModel})
            scheduler = read_scheduler(info.folder)
        require_schedule(info.folder, scheduler, 1000)
        require_finite(info.folder, models)
        return cls(info, **models, scheduler=scheduler)

    @property
    def denoiser(self) -> nn.Module:
        return self.unet

    @property
    def times(self) -> int:
        return len(self.scheduler.alphas_cumprod)

    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = from_bytes(images)
        return pixels, torch.zeros_like(pixels)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        return to_bytes(latents)

    def condition(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.zeros(len(prompts), 0, device=self.device)

    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return corrupt(self.scheduler, latent, noise, time)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        return self.unet(noisy, time).sample

    def sampler(self, name: str, steps: int) -> Any:
        return make_sampler(self.scheduler, name, steps)

    def save(self, folder: Path) -> None:
        from diffusers import DDPMPipeline

        half = copy.deepcopy(self.unet).to(torch.float16)
        DDPMPipeline(half, self.scheduler).save_pretrained(folder, safe_serialization=True)


FAMILIES["DDPMPipeline"] = PixelDiffusion

if __name__ == "__main__":
    base, images, run = sys.argv[1:]
    done = sfumato.adapt(images, epsilon=4, base=base, method="full", unlabelled=True, output=run)
    print(f"epsilon {done.plan.epsilon}: {done.folder} is PRIVATE")
