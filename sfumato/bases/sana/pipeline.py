"""The family's `Base`: the parts of a SanaPipeline, joined."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ...compute.device import on_host, to_device
from ...compute.precision import mixed_precision
from ...errors import ModelError
from ..conditioning import Conditioning, concatenate, rows, tensors
from ..facts import info_by_denoiser
from ..flow import training_sigmas
from ..interface import BaseInfo
from ..pipelines import FlowPipeline, PipelineBase
from ..pixels import from_bytes
from ..text import tokens
from ..together import few_together

LENGTH = 300  # tokens of a prompt that the pipeline keeps


class Sana(FlowPipeline):
    """A SanaPipeline. Its autoencoder has no posterior: a latent's deviation is zero."""

    family: ClassVar = "sana"
    pipeline: ClassVar = "SanaPipeline"
    components: ClassVar = {
        "transformer": {"SanaTransformer2DModel"},
        "vae": {"AutoencoderDC"},
        "text_encoder": {"Gemma2Model"},
        "tokenizer": {"GemmaTokenizer", "GemmaTokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        return info_by_denoiser(
            cls,
            name,
            folder,
            channels=32,
            side=32,
            given=32,
            blocks="encoder_block_out_channels",
        )

    def set_up(self) -> None:
        """Also the training times, and whether the text encoder fits.

        Published folders hold a DPM-Solver set to flows; diffusers' training programs read its
        settings as those of FlowMatchEulerDiscreteScheduler, which knows another name for a shift.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler

        PipelineBase.set_up(self)
        config = self.scheduler.config
        own = type(self.scheduler).__name__
        if not own.startswith("FlowMatch") and config.get("prediction_type") != "flow_prediction":
            raise ModelError(f"the scheduler of {self.info.folder}, a {own}, is set to no flow")
        self.sigmas = training_sigmas(FlowMatchEulerDiscreteScheduler.from_config(config))
        width = self.parts["transformer"].config.caption_channels
        if self.parts["text_encoder"].config.hidden_size != width:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Gemma's hidden states behind the pipeline's instruction, and their mask.

        The empty prompt stands alone, as the pipeline's negative one.
        """
        told = [prompt.lower().strip() for prompt in prompts]
        read = concatenate(
            [self._last(told, instructed=True, cut=cut), self._last([""], instructed=False)]
        )
        order = [i if prompt else len(told) for i, prompt in enumerate(told)]
        return rows(read, torch.tensor(order, device=tensors(read)["mask"].device))

    def _last(self, told: Sequence[str], *, instructed: bool, cut: bool = False) -> Conditioning:
        """The first token and the last `LENGTH` - 1 of texts padded to the same length."""
        tokenizer, encoder = self.parts["tokenizer"], self.parts["text_encoder"]
        tokenizer.padding_side = "right"
        before = instruction() if instructed else ""
        more = len(tokenizer.encode(before)) - 2 if instructed else 0
        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(tokenizer, told, LENGTH + more, cut=cut, write=before.__add__)
        )
        read = encoder(ids, attention_mask=mask)[0]
        kept = [0, *range(more + 1, LENGTH + more)]
        return {"text": read[:, kept], "mask": mask[:, kept]}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output; it counts time from 0 to 1,000 times a scale of its own."""
        told = tensors(condition)
        config = self.parts["transformer"].config
        time = sigma * self.scheduler.config.num_train_timesteps * config.timestep_scale
        predicted = self.denoiser(
            noisy,
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["mask"],
            timestep=time,
            return_dict=False,
        )[0]
        return predicted[:, : self.latent_shape[0]]

    @few_together
    @torch.no_grad()
    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The scaled latents of images uint8 [B, R, R, 3], and zeros."""
        vae = self.parts["vae"]
        pixels = from_bytes(images, vae.device)
        with mixed_precision(self.formats.encode, pixels):
            found = vae.encode(pixels).latent
        latents = on_host(self.scale.of_mean(found.float()))
        return latents, torch.zeros_like(latents)


@cache
def instruction() -> str:
    """What the pipeline puts before prompts, by its own default."""
    from diffusers import SanaPipeline

    asked = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"]
    return "\n".join(asked.default)
