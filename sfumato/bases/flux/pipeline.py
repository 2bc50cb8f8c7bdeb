"""The family's `Base`: the parts of a FluxPipeline, joined."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..conditioning import Conditioning, tensors
from ..facts import count_of, kl_factor, latent_info, require_channels
from ..interface import BaseInfo, Denoise
from ..packing import as_maps, as_tokens, patches, places, unpatched
from ..pipelines import FlowPipeline, patch_count, size_shift
from ..text import tokens

LENGTH = 512  # tokens that the pipeline lets T5 read
# With which diffusers' training program tells a denoiser that embeds the scale to learn.
TRAINING_GUIDANCE = 3.5


class Flux(FlowPipeline):
    """A FluxPipeline: [dev] embeds the guidance scale, [schnell] does not.

    Latents are unpacked; the denoiser reads them as 2x2 patches.
    """

    family: ClassVar = "flux"
    pipeline: ClassVar = "FluxPipeline"
    components: ClassVar = {
        "transformer": {"FluxTransformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"CLIPTextModel"},
        "tokenizer": {"CLIPTokenizer", "CLIPTokenizerFast"},
        "text_encoder_2": {"T5EncoderModel"},
        "tokenizer_2": {"T5Tokenizer", "T5TokenizerFast"},
        "scheduler": None,
    }
    optional: ClassVar = ("image_encoder", "feature_extractor")
    encoders: ClassVar = ("text_encoder", "text_encoder_2")
    heeds: ClassVar = {"shift": True}
    any_size: ClassVar = True
    guidance: float = TRAINING_GUIDANCE

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        channels = count_of(folder, "vae", "latent_channels", 16)
        takes, factor = count_of(folder, "transformer", "in_channels", 64), kl_factor(folder)
        require_channels(folder, takes, 4 * channels)
        side = count_of(folder, "vae", "sample_size", 1024) // factor
        if side % 2:
            raise ModelError(f"vae/config.json of {folder}: sample_size is not in whole patches")
        return latent_info(name, folder, cls.family, channels=channels, side=side, factor=factor)

    def set_up(self) -> None:
        """Also whether the text encoders fit, and whether the denoiser embeds guidance."""
        super().set_up()
        config = self.parts["transformer"].config
        self.embeds_guidance = bool(config.guidance_embeds)
        if (
            self.parts["text_encoder"].config.hidden_size != config.pooled_projection_dim
            or self.parts["text_encoder_2"].config.d_model != config.joint_attention_dim
        ):
            raise ModelError(f"{self.info.folder}: the text encoders do not fit the transformer")

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """T5's hidden states, and CLIP's pooled text of the beginning."""
        clip, t5 = self.parts["text_encoder"], self.parts["text_encoder_2"]
        tokenizer = self.parts["tokenizer"]
        ids, _ = tokens(tokenizer, prompts, tokenizer.model_max_length, cut=True)
        pooled = clip(to_device(ids, clip.device)).pooler_output
        ids, _ = tokens(self.parts["tokenizer_2"], prompts, LENGTH, cut=cut)
        return {"text": t5(to_device(ids, t5.device))[0], "pooled": pooled}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output, unpacked; it counts time from 0 to 1."""
        told, packed = tensors(condition), patches(noisy)
        height, width = packed.shape[-2:]
        words = torch.zeros(told["text"].shape[1], 3, device=noisy.device)
        predicted = self.denoiser(
            hidden_states=as_tokens(packed),
            timestep=sigma,
            guidance=torch.full_like(sigma, self.guidance) if self.embeds_guidance else None,
            pooled_projections=told["pooled"],
            encoder_hidden_states=told["text"],
            txt_ids=words,
            img_ids=places(height, width, 3, noisy.device),
            return_dict=False,
        )[0]
        return unpatched(as_maps(predicted, height))

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """The direction with this guidance scale, where the denoiser embeds one."""
        told = copy.copy(self)
        told.guidance = guidance_scale
        return super(Flux, told).make_denoise(guidance_scale)

    def sampling_times(self, steps: int) -> dict[str, Any]:
        """Shares of noise evenly from 1, also where the scheduler does not shift by size."""
        told: dict[str, Any] = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
        if self.scheduler.config.get("use_dynamic_shifting", False):
            told["mu"] = self.shift()
        return told

    @property
    def size_unit(self) -> int:
        """The side of a patch."""
        return 2

    def shift(self) -> float:
        """By the number of patches."""
        return size_shift(self.scheduler, patch_count(self.latent_shape, 2))
