"""The family's `Base`: the parts of a PixArtSigmaPipeline, joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..checks import prediction_of
from ..conditioning import Conditioning, tensors
from ..facts import info_by_denoiser
from ..interface import BaseInfo
from ..loading import require_schedule
from ..pipelines import PipelineBase
from ..schedules import DiffusionBase
from ..text import tokens

TIMES = 1000
LENGTH = 300  # tokens that the pipeline reads


class PixArtSigma(DiffusionBase, PipelineBase):
    """A PixArtSigmaPipeline.

    Its denoiser also gives a variance, which neither training nor sampling uses. diffusers has no
    adapters for it.
    """

    family: ClassVar = "pixart-sigma"
    pipeline: ClassVar = "PixArtSigmaPipeline"
    components: ClassVar = {
        "transformer": {"PixArtTransformer2DModel", "Transformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"T5EncoderModel"},
        "tokenizer": {"T5Tokenizer", "T5TokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        said = prediction_of(folder)
        return info_by_denoiser(cls, name, folder, channels=4, side=128, prediction=said)

    def set_up(self) -> None:
        """Also the noise schedule, and whether the parts fit."""
        super().set_up()
        require_schedule(self.info.folder, self.scheduler, TIMES)
        config = self.parts["transformer"].config
        if self.parts["text_encoder"].config.d_model != config.caption_channels:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")
        if self.parts["transformer"].use_additional_conditions:
            raise ModelError(
                f"{self.info.folder} is told sizes, as PixArt-Alpha is: sfumato adapts PixArt-Sigma"
            )

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """T5's hidden states of the prompts in lower case, as the pipeline reads them; and mask."""
        plain = [prompt.lower().strip() for prompt in prompts]
        encoder = self.parts["text_encoder"]
        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(self.parts["tokenizer"], plain, LENGTH, cut=cut)
        )
        return {"text": encoder(ids, attention_mask=mask)[0], "mask": mask}

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's prediction, without the variance."""
        told = tensors(condition)
        predicted = self.denoiser(
            noisy,
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["mask"],
            timestep=time.expand(len(noisy)),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return predicted[:, : self.latent_shape[0]]
