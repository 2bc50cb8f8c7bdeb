"""The family's `Base`: a UNet2DModel with its schedule, on pixels or behind an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from ...compute.device import HOST
from ...compute.stored import halved
from ...errors import ModelError
from ..checks import INDEX_FILE, facts_of_files, prediction_of, whole
from ..conditioning import Conditioning
from ..facts import kl_factor
from ..interface import BaseInfo
from ..loading import loading, read_models, read_scheduler, require_finite, require_schedule
from ..schedules import DiffusionBase
from ..unets import UNetNames
from ..weights import check_settings
from .codec import Codec, Pixels, Posterior, Quantized


@dataclass
class UNet2D(UNetNames, DiffusionBase):
    """What both kinds have in common, where nothing is told."""

    prefix: ClassVar = "unet"
    # The same with a table of classes.
    with_classes: ClassVar[type[UNet2D] | None] = None

    info: BaseInfo
    unet: Any
    scheduler: Any
    autoencoder: Any  # None where latents are pixels
    codec: Codec
    pipeline: str  # diffusers' class, which saves it again

    @classmethod
    def load(cls, info: BaseInfo) -> Self:
        """Opens U-Net, autoencoder and schedule; with a class table where the U-Net has one."""
        folder = info.folder
        with loading(folder):
            models = read_models(folder, cls.models(folder))
            scheduler = read_scheduler(folder)
        times = getattr(scheduler.config, "num_train_timesteps", 0)
        require_schedule(folder, scheduler, times)
        require_finite(folder, models)
        unet, autoencoder = models["unet"], models.get("vqvae")
        codec = cls.codec_of(unet, autoencoder)
        pipeline = check_settings(folder / INDEX_FILE)["_class_name"]
        kind: Any = cls.with_classes if info.condition == "class" else cls
        return kind(info, unet, scheduler, autoencoder, codec, pipeline)

    @classmethod
    def models(cls, folder: Path) -> dict[str, type]:
        """Component -> class."""
        from diffusers import UNet2DModel

        return {"unet": UNet2DModel}

    @classmethod
    def codec_of(cls, unet: Any, autoencoder: Any) -> Codec:
        """How images become what the denoiser sees."""
        return Pixels(unet.config.in_channels)

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        return self.unet

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts U-Net, autoencoder and the noise schedule onto a device."""
        super().move(where, denoiser=denoiser)
        if self.autoencoder is not None:
            self.autoencoder.to(where)

    def park(self, *, prompts: bool) -> None:
        """Takes the autoencoder off the device."""
        if self.autoencoder is not None:
            self.autoencoder.to(HOST)

    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """What the denoiser sees of images uint8 [B, R, R, 3]: mean and deviation."""
        return self.codec.encode(images, self.formats)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Images uint8 [B, R, R, 3]."""
        return self.codec.decode(latents, self.formats)

    def condition(self, prompts: Sequence[str]) -> torch.Tensor:
        """Nothing, [n, 0]."""
        return torch.zeros(len(prompts), 0, device=self.told_on)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The U-Net's prediction."""
        return self.unet(noisy, time).sample

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision, of the class that it came from."""
        import diffusers

        parts = {"unet": self.whole_unet(), "vqvae": self.autoencoder}
        halves = {name: halved(part) for name, part in parts.items() if part}
        kind = getattr(diffusers, self.pipeline)
        kind(**halves, scheduler=self.scheduler).save_pretrained(folder, safe_serialization=True)

    def whole_unet(self) -> Any:
        """The U-Net as diffusers saves it."""
        return self.unet


def facts_of_unet(folder: Path) -> tuple[int, int]:
    """(sample size, channels) of a folder's U-Net; ModelError."""
    file = folder / "unet" / "config.json"
    settings = check_settings(file)
    side, channels = (
        whole(file, settings, "sample_size", 0),
        whole(file, settings, "in_channels", 3),
    )
    if (out := whole(file, settings, "out_channels", 3)) != channels:
        raise ModelError(
            f"the denoiser of {folder} takes {channels} channels and gives {out}: a learned"
            " variance is not supported in this family"
        )
    kind = settings.get("class_embed_type")
    if kind is not None:
        raise ModelError(
            f"the denoiser of {folder} is told classes by class_embed_type {str(kind)[:60]}:"
            " sfumato takes a table (num_class_embeds)"
        )
    return side, channels


def info_of(
    family: type[UNet2D], name: str, folder: Path, resolution: int, shape: tuple[int, int, int]
) -> BaseInfo:
    """The facts of a pipeline folder without its weights."""
    settings = check_settings(folder / "unet" / "config.json")
    told = settings.get("num_class_embeds") is not None
    return BaseInfo(
        name=name,
        family=family.family,
        resolution=resolution,
        latent_shape=shape,
        condition="class" if told else "none",
        prediction=prediction_of(folder, "sample"),
        **facts_of_files(folder),
    )


@dataclass
class PixelUNet(UNet2D):
    """A DDPMPipeline or DDIMPipeline: latents are pixels."""

    family: ClassVar = "pixel-unet"
    components: ClassVar = {"unet": {"UNet2DModel"}, "scheduler": None}

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        side, channels = facts_of_unet(folder)
        if channels not in (1, 3):
            raise ModelError(
                f"the denoiser of {folder} takes {channels} channels: pixels have 1 or 3"
            )
        return info_of(cls, name, folder, side, (channels, side, side))


@dataclass
class LatentUNet(UNet2D):
    """An LDMPipeline: latents of a VQModel or an AutoencoderKL."""

    family: ClassVar = "latent-unet"
    components: ClassVar = {
        "vqvae": {"VQModel", "AutoencoderKL"},
        "unet": {"UNet2DModel"},
        "scheduler": None,
    }

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        side, channels = facts_of_unet(folder)
        file = folder / "vqvae" / "config.json"
        settings = check_settings(file)
        quantized = check_settings(folder / INDEX_FILE)["vqvae"][1] == "VQModel"
        given = whole(file, settings, "latent_channels", 3 if quantized else 4)
        if given != channels:
            raise ModelError(
                f"the denoiser of {folder} takes {channels} channels and its autoencoder gives"
                f" {given}"
            )
        resolution = side * kl_factor(folder, part="vqvae")
        return info_of(cls, name, folder, resolution, (channels, side, side))

    @classmethod
    def models(cls, folder: Path) -> dict[str, type]:
        """U-Net, and the autoencoder that the index names."""
        import diffusers

        kind = check_settings(folder / INDEX_FILE)["vqvae"][1]
        return {"unet": diffusers.UNet2DModel, "vqvae": getattr(diffusers, kind)}

    @classmethod
    def codec_of(cls, unet: Any, autoencoder: Any) -> Codec:
        """The autoencoder, by its kind."""
        quantized = type(autoencoder).__name__ == "VQModel"
        return Quantized(autoencoder) if quantized else Posterior(autoencoder)
