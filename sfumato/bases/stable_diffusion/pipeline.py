"""The family's `Base`: the parts of a StableDiffusionPipeline, joined."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...compute.device import HOST, on_host
from ...errors import ModelError
from .. import latents
from ..checks import facts_of_files, prediction_of, whole
from ..interface import BaseInfo, Denoise, TextBase
from ..loading import loading, read_models, read_scheduler, require_finite, require_schedule
from ..schedules import corrupt, make_sampler
from ..unets import UNetNames
from ..weights import check_settings
from . import prompts
from .denoising import make_denoise
from .encoders import PromptEncoder, VectorEncoder

TIMES = 1000
# Up to this side the plain attention product trains 1.5 times faster than the fused one on CPUs
# (measured at 8).
SMALL_LATENT = 16


@dataclass
class StableDiffusion(UNetNames, TextBase):
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

    info: BaseInfo
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any  # the base's own; its noise schedule is the one that training uses

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        unet_file, vae_file = folder / "unet" / "config.json", folder / "vae" / "config.json"
        unet, vae = check_settings(unet_file), check_settings(vae_file)
        channels = whole(unet_file, unet, "in_channels", 4)
        if channels != (given := whole(vae_file, vae, "latent_channels", 4)):
            raise ModelError(
                f"the denoiser of {folder} takes {channels} channels and its autoencoder gives"
                f" {given}: in-painting and video bases are not supported"
            )
        side = whole(unet_file, unet, "sample_size", 0)
        stages = vae.get("block_out_channels", (64,))
        if not isinstance(stages, (list, tuple)) or not stages:
            raise ModelError(
                f"the settings of the base {folder} are not those of such models: fetch it again"
            )
        return BaseInfo(
            name=name,
            family=cls.family,
            resolution=side * 2 ** (len(stages) - 1),
            latent_shape=(channels, side, side),
            condition="text",
            prediction=prediction_of(folder),
            **facts_of_files(folder),
        )

    @classmethod
    def load(cls, info: BaseInfo) -> StableDiffusion:
        """Reads U-Net, autoencoder, text encoder and tokenizer, checked before."""
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = info.folder
        with loading(folder):
            from diffusers import AutoencoderKL, UNet2DConditionModel

            models = read_models(
                folder,
                {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel},
            )
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            scheduler = read_scheduler(folder)
        try:
            _check_fit(folder, models["unet"], models["text_encoder"])
            require_schedule(folder, scheduler, TIMES)
        except (TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"the settings of the base {folder} are not those of such models: fetch it again"
            ) from error
        require_finite(folder, models)
        if info.latent_shape[1] <= SMALL_LATENT:
            from diffusers.models.attention_processor import AttnProcessor

            unet: Any = models["unet"]
            unet.set_attn_processor(AttnProcessor())
        return cls(info, **models, tokenizer=tokenizer, scheduler=scheduler)

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        return self.unet

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts U-Net, autoencoder, text encoder and the noise schedule onto a device."""
        for part in (self.unet if denoiser else None, self.vae, self.text_encoder):
            if part is not None:
                part.to(where)
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(where)

    def park(self, *, prompts: bool) -> None:
        """Takes the autoencoder, and with `prompts` the text encoder, off the device."""
        for part in (self.vae, self.text_encoder if prompts else None):
            if part is not None:
                part.to(HOST)

    @property
    def times(self) -> int:
        """How many diffusion times the schedule has."""
        return len(self.scheduler.alphas_cumprod)

    @property
    def own_sampler(self) -> str:
        """Name of the scheduler that the pipeline came with."""
        return type(self.scheduler).__name__

    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the scaled latents of images uint8 [B, R, R, 3]."""
        return latents.encode(self.vae, images, self.formats.encode)

    def decode(self, latent: torch.Tensor) -> np.ndarray:
        """Images uint8 [B, R, R, 3] of scaled latents."""
        return latents.decode(self.vae, latent, self.formats.decode)

    def condition(self, texts: Sequence[str]) -> torch.Tensor:
        """Text embeddings [n, L, D] of prompts."""
        return prompts.embed(self.text_encoder, self.tokenizer, texts)

    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents and the target (noise or velocity) by the base's schedule."""
        return corrupt(self.scheduler, latent, noise, time)

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """The U-Net's prediction."""
        return self.unet(noisy, time, condition).sample

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """A denoiser for sampling that keeps the projections of prompts."""
        return make_denoise(self.unet, self.formats.sample)

    def sampler(self, name: str, steps: int) -> Any:
        """A diffusers scheduler on the base's schedule."""
        return make_sampler(self.scheduler, name, steps)

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision."""
        models = (self.vae, self.text_encoder, self.unet)
        halves = (copy.deepcopy(m).to(HOST, torch.float16) for m in models)
        self._pipeline(*halves).save_pretrained(folder, safe_serialization=True)

    def as_pipeline(self) -> Any:
        """The base as a StableDiffusionPipeline that shares its modules."""
        return self._pipeline(self.vae, self.text_encoder, self.unet)

    def _pipeline(self, vae: Any, text_encoder: Any, unet: Any) -> Any:
        from diffusers import StableDiffusionPipeline

        none: Any = None  # which diffusers takes, but does not say so
        return StableDiffusionPipeline(
            vae,
            text_encoder,
            self.tokenizer,
            unet,
            self.scheduler,
            none,
            none,
            requires_safety_checker=False,
        )

    def write_lora(self, folder: Path, layers: dict, metadata: dict | None = None) -> None:
        """Writes LoRA layers of the U-Net in diffusers' format."""
        from diffusers import StableDiffusionPipeline

        StableDiffusionPipeline.save_lora_weights(
            folder,
            unet_lora_layers=layers,
            unet_lora_adapter_metadata=metadata,
            safe_serialization=True,
        )

    @property
    def word_vectors(self) -> torch.Tensor:
        """The token embedding table [vocabulary, D]."""
        return on_host(self.text_encoder.get_input_embeddings().weight)

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Ids of whole tokens."""
        return self.tokenizer.convert_tokens_to_ids(list(words))

    def tokens_of(self, text: str) -> list[int]:
        """Ids of a text's tokens, without start and end."""
        return prompts.tokens_of(self.tokenizer, text)

    def has_token(self, word: str) -> bool:
        """Whether the vocabulary has this word as one token."""
        return prompts.has_token(self.tokenizer, word)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of the prompts that are no single token."""
        return prompts.unknown_words(self.tokenizer, texts)

    def add_tokens(self, words: Sequence[str], initializers: Sequence[str | None]) -> list[int]:
        """Adds tokens with their initializers' embeddings to the vocabulary; returns their ids."""
        return prompts.add_tokens(self.text_encoder, self.tokenizer, words, initializers)

    def write_embeddings(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """Overwrites rows of the token embedding table."""
        prompts.write_embeddings(self.text_encoder, ids, rows)

    def token_encoder(self, texts: Sequence[str], ids: Sequence[int | None]) -> PromptEncoder:
        """Prompt embeddings with one trainable vector per class token."""
        return PromptEncoder(self.text_encoder, self.tokenizer, texts, ids)

    def vector_encoder(
        self, texts: Sequence[str], placeholders: Sequence[str], vectors: int
    ) -> VectorEncoder:
        """Prompt embeddings with separate vectors for every row."""
        return VectorEncoder(self.text_encoder, self.tokenizer, texts, placeholders, vectors)

    def freeze_text(self) -> None:
        """Stops gradients to the text encoder."""
        self.text_encoder.requires_grad_(False)


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
        digest_of=str,
    )
    return StableDiffusion(info, denoiser, None, None, None, schedule)


def _check_fit(folder: Path, unet: Any, text_encoder: Any) -> None:
    if unet.config.cross_attention_dim != text_encoder.config.hidden_size:
        raise ModelError(
            f"{folder}: the text encoder's width does not fit the denoiser's cross-attention"
        )
