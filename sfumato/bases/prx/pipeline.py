"""The family's `Base`: the parts of a PRXPipeline, joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..checks import INDEX_FILE, whole
from ..conditioning import Conditioning, tensors
from ..facts import count_of, kl_factor, latent_info, require_channels
from ..interface import BaseInfo
from ..pipelines import FlowPipeline
from ..text import tokens
from ..weights import check_settings
from .encoder import TextEncoder, composite

LONGEST = 4096  # tokens; a tokenizer that states no length states 1e30
SIDE = 512  # pixels that the pipeline draws where its index says nothing


class PRX(FlowPipeline):
    """A PRXPipeline on a KL autoencoder.

    Its denoiser takes no adapters of peft's, and its pipeline's loader looks for a U-Net: LoRA is
    refused.
    """

    family: ClassVar = "prx"
    pipeline: ClassVar = "PRXPipeline"
    components: ClassVar = {
        "transformer": {"PRXTransformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"T5GemmaEncoder"},
        "tokenizer": {"GemmaTokenizer", "GemmaTokenizerFast"},
        "scheduler": None,
    }
    adapters: ClassVar = False
    encoders: ClassVar = ("text_encoder",)
    heeds: ClassVar = {"shift": True}
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        channels, factor = count_of(folder, "transformer", "in_channels", 16), kl_factor(folder)
        require_channels(folder, channels, count_of(folder, "vae", "latent_channels", 4))
        index = folder / INDEX_FILE
        pixels = whole(index, check_settings(index), "default_sample_size", SIDE)
        patch = count_of(folder, "transformer", "patch_size", 2)
        if pixels % (factor * patch):
            raise ModelError(f"{INDEX_FILE} of {folder}: default_sample_size is no whole patches")
        return latent_info(
            name, folder, cls.family, channels=channels, side=pixels // factor, factor=factor
        )

    @classmethod
    def class_for(cls, library: str, name: str) -> Any:
        """The text encoder is opened by `TextEncoder`."""
        return TextEncoder if name == "T5GemmaEncoder" else super().class_for(library, name)

    def set_up(self) -> None:
        """Also how prompts are cleaned, and whether the text encoder fits."""
        super().set_up()
        from diffusers.pipelines.prx.pipeline_prx import TextPreprocessor
        from diffusers.utils import is_ftfy_available

        if not is_ftfy_available():
            raise ModelError(
                f"{self.info.folder}: prompts of a {self.pipeline} are cleaned by ftfy: install"
                " sfumato[prx]"
            )
        self.cleaned = TextPreprocessor().clean_text
        self.length = self.parts["tokenizer"].model_max_length
        if self.length > LONGEST:
            raise ModelError(f"the tokenizer of {self.info.folder} states no model_max_length")
        width = self.parts["transformer"].config.context_in_dim
        if self.parts["text_encoder"].config.hidden_size != width:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")

    def settings(self) -> Mapping[str, Any]:
        """The side of its pictures."""
        return {"default_sample_size": self.resolution}

    def save(self, folder: Path) -> None:
        """Writes a pipeline folder in half precision."""
        super().save(folder)
        # diffusers looks for the encoder's settings in those of a whole T5Gemma
        composite(self.parts["text_encoder"].config).save_pretrained(folder / "text_encoder")

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Last hidden states of prompts as the pipeline cleans them, and their mask."""
        encoder = self.parts["text_encoder"]
        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(
                self.parts["tokenizer"], prompts, self.length, cut=cut, write=self.cleaned
            )
        )
        return {"text": encoder(ids, attention_mask=mask.bool())[0], "mask": mask}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output; it counts time from 0 to 1."""
        told = tensors(condition)
        return self.denoiser(
            hidden_states=noisy,
            timestep=sigma,
            encoder_hidden_states=told["text"],
            attention_mask=told["mask"].bool(),
            return_dict=False,
        )[0]
