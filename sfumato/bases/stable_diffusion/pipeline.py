"""The family's `Base`: the parts of a StableDiffusionPipeline, joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from ...compute.device import HOST, to_device
from ...compute.stored import halved
from ...errors import ModelError
from ..checks import prediction_of
from ..conditioning import Conditioning
from ..dropped import Again, is_large
from ..facts import info_by_denoiser, settings_of
from ..interface import BaseInfo, Denoise
from ..latents import AutoencoderBase, LatentScale, latent_scale
from ..loading import loading, read_models, read_scheduler, require_finite, require_schedule
from ..saving import write_pipeline
from ..schedules import DiffusionBase
from ..unets import UNetNames, check_unet
from .denoising import make_denoise
from .words import ClipWords

TIMES = 1000
# Up to this side the plain attention product trains 1.5 times faster than the fused one on CPUs
# (measured at 8).
SMALL_LATENT = 16


@dataclass
class StableDiffusion(UNetNames, AutoencoderBase, DiffusionBase, ClipWords):
    """A StableDiffusionPipeline with one text encoder."""

    family: ClassVar = "stable-diffusion"
    components: ClassVar = {
        "unet": {"UNet2DConditionModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"CLIPTextModel"},
        "tokenizer": {"CLIPTokenizer", "CLIPTokenizerFast"},
        "scheduler": None,
    }
    optional: ClassVar = ("safety_checker", "feature_extractor", "image_encoder")
    prefix: ClassVar = "unet"
    adapters: ClassVar = True
    any_size: ClassVar = True
    # diffusers' class
    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    # what the U-Net is told beside prompts, as its settings name it
    added: ClassVar[str | None] = None

    info: BaseInfo
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    again: dict[str, Again] = field(default_factory=dict, kw_only=True)

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        check_unet(folder, settings_of(folder, "unet"), cls.added)
        said = prediction_of(folder)
        return info_by_denoiser(cls, name, folder, channels=4, side=0, prediction=said)

    @classmethod
    def load(cls, info: BaseInfo) -> Self:
        """Reads U-Net, autoencoder, text encoders and tokenizers, checked before."""
        from transformers import CLIPTokenizer

        folder = info.folder
        with loading(folder):
            models = read_models(folder, cls._classes())
            tokenizers = {
                name: CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)
                for name in cls.components
                if name.startswith("tokenizer")
            }
            scheduler = read_scheduler(folder)
            latent_scale(models["vae"])
        base = cls(info, **models, **tokenizers, scheduler=scheduler)
        encoders = {n: kind for n, kind in cls._classes().items() if n.startswith("text_encoder")}
        base.again = {name: Again(folder / name, kind) for name, kind in encoders.items()}
        # a latent consistency model
        base.embeds_guidance = base.unet.config.time_cond_proj_dim is not None
        try:
            base._check_fit()
            require_schedule(folder, scheduler, TIMES)
        except (TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"the settings of the base {folder} are not those of such models: fetch it again"
            ) from error
        require_finite(folder, models)
        if info.latent_shape[1] <= SMALL_LATENT:
            from diffusers.models.attention_processor import AttnProcessor

            base.unet.set_attn_processor(AttnProcessor())
        return base

    @classmethod
    def _classes(cls) -> dict[str, type]:
        """Component -> class, of those with weights."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        unet: dict[str, type] = {"unet": UNet2DConditionModel}
        return {**unet, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}

    def _check_fit(self) -> None:
        """ModelError for parts that are of different models."""
        if self.unet.config.cross_attention_dim != self.text_encoder.config.hidden_size:
            raise ModelError(
                f"{self.info.folder}: the text encoder's width does not fit the denoiser's"
                " cross-attention"
            )

    def _told(
        self, condition: Any, noisy: torch.Tensor, guidance_scale: float = 1.0
    ) -> dict[str, Any]:
        """Arguments of the U-Net that say a condition, and the scale where it takes it."""
        return {"encoder_hidden_states": condition, **self._scale(condition, guidance_scale)}

    def _scale(self, text: torch.Tensor, guidance_scale: float) -> dict[str, Any]:
        """The guidance scale as a latent consistency model reads it (arXiv 2310.04378)."""
        if not self.embeds_guidance:
            return {}
        from diffusers import StableDiffusionPipeline

        none: Any = None  # the function looks at no pipeline
        scale = torch.full((len(text),), guidance_scale - 1)
        embedded = StableDiffusionPipeline.get_guidance_scale_embedding(
            none, scale, embedding_dim=self.unet.config.time_cond_proj_dim
        )
        return {"timestep_cond": to_device(embedded, text.device)}

    def drop_encoders(self) -> None:
        """Lets go of the text encoders, unless they have learnt a token, which no file holds."""
        for name in self.again if not self.taught else ():
            if is_large(vars(self).get(name)):
                delattr(self, name)

    def __getattr__(self, name: str) -> Any:
        """Reads a text encoder again that was dropped."""
        again = vars(self).get("again", {}).get(name)
        if again is None:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        setattr(self, name, again())
        return vars(self)[name]

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        return self.unet

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts U-Net, autoencoder, text encoders and the noise schedule onto a device."""
        super().move(where, denoiser=denoiser)
        for part in (self.vae, *(encoder for encoder, _ in self.readers)):
            if part is not None:
                part.to(where)

    def park(self, *, prompts: bool) -> None:
        """Takes the autoencoder, and with `prompts` the text encoders, off the device."""
        for part in (self.vae, *(encoder for encoder, _ in self.readers if prompts)):
            if part is not None:
                part.to(HOST)

    @property
    def size_unit(self) -> int:
        """Each level of the U-Net but the last halves its pictures."""
        return 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def scale(self) -> LatentScale:
        """The factor in the autoencoder's settings."""
        return latent_scale(self.vae)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The U-Net's prediction."""
        return self.unet(noisy, time, **self._told(condition, noisy)).sample

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """A denoiser for sampling that keeps the projections of prompts."""
        return make_denoise(
            self.unet,
            self.formats.sample,
            lambda told, noisy: self._told(told, noisy, guidance_scale),
        )

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision."""
        pipe = self.as_pipeline()
        halves = {
            name: halved(part)
            for name, part in pipe.components.items()
            if isinstance(part, nn.Module)
        }
        pipe.register_modules(**halves)
        write_pipeline(pipe, folder)

    def as_pipeline(self) -> Any:
        """The base as a diffusers pipeline that shares its modules."""
        from diffusers import StableDiffusionPipeline

        none: Any = None  # which diffusers takes, but does not say so
        return StableDiffusionPipeline(
            self.vae,
            self.text_encoder,
            self.tokenizer,
            self.unet,
            self.scheduler,
            none,
            none,
            requires_safety_checker=False,
        )

    def write_lora(self, folder: Path, layers: dict, metadata: dict | None = None) -> None:
        """Writes LoRA layers of the U-Net in diffusers' format."""
        import diffusers

        getattr(diffusers, self.pipeline).save_lora_weights(
            folder,
            unet_lora_layers=layers,
            unet_lora_adapter_metadata=metadata,
            safe_serialization=True,
        )


def around(
    denoiser: nn.Module, alphas: torch.Tensor, latent_shape: tuple[int, int, int]
) -> StableDiffusion:
    """A base that is only a noise-predicting denoiser with its own schedule [times].

    For the audit's small models.
    """
    schedule = SimpleNamespace(
        alphas_cumprod=alphas, config=SimpleNamespace(prediction_type="epsilon")
    )
    parameters = sum(p.numel() for p in denoiser.parameters())
    info = BaseInfo(
        name="dummy",
        family=StableDiffusion.family,
        folder=Path("."),
        resolution=latent_shape[-1],
        latent_shape=latent_shape,
        condition="text",
        prediction="epsilon",
        licence=None,
        parameters=parameters,
        size=4 * parameters,
        held=4 * parameters,
        digest_of=str,
    )
    return StableDiffusion(info, denoiser, None, None, None, schedule)
