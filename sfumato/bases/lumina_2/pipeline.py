"""The family's `Base`: the parts of a Lumina2Pipeline, joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..conditioning import Conditioning, tensors
from ..facts import info_by_denoiser
from ..flow import renormalised
from ..interface import BaseInfo
from ..pipelines import FlowPipeline, size_shift
from ..text import tokens

LENGTH = 256  # tokens that the pipeline reads, its instruction among them
INSTRUCTION = (
    "You are an assistant designed to generate superior images with the superior degree of"
    " image-text alignment based on textual prompts or user prompts."
)


class Lumina2(FlowPipeline):
    """A Lumina2Pipeline. Its denoiser counts time from noise to picture, and answers the other way.

    Training times are those that the scheduler draws by, so that more of them are near the noise,
    as in the paper; diffusers' training program mirrors them.
    """

    family: ClassVar = "lumina-2"
    pipeline: ClassVar = "Lumina2Pipeline"
    components: ClassVar = {
        "transformer": {"Lumina2Transformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"Gemma2Model"},
        "tokenizer": {"GemmaTokenizer", "GemmaTokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    heeds: ClassVar = {"shift": True}
    even_sigmas: ClassVar = True
    any_size: ClassVar = True
    ragged: ClassVar = True  # texts and pictures are joined to the longest of a pass

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        return info_by_denoiser(cls, name, folder, channels=16, side=128)

    def set_up(self) -> None:
        """Also whether the text encoder fits the transformer."""
        super().set_up()
        self.parts["tokenizer"].padding_side = "right"  # as the pipeline does
        width = self.parts["transformer"].config.cap_feat_dim
        if self.parts["text_encoder"].config.hidden_size != width:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Gemma's last hidden states but one, and their mask.

        Behind the pipeline's instruction, but for the empty prompt, which guidance reads alone.
        """
        encoder = self.parts["text_encoder"]
        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(self.parts["tokenizer"], prompts, LENGTH, cut=cut, write=instructed)
        )
        if not bool(mask.any(1).all()):
            raise ModelError(f"the tokenizer of {self.info.folder} makes no token of a prompt")
        read = encoder(ids, attention_mask=mask, output_hidden_states=True)
        return {"text": read.hidden_states[-2], "mask": mask}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output with its sign turned: it predicts latent - noise."""
        told = tensors(condition)
        return -self.denoiser(
            hidden_states=noisy,
            timestep=1 - sigma,
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["mask"],
            return_dict=False,
        )[0]

    def guide(self, empty: torch.Tensor, told: torch.Tensor, scale: float) -> torch.Tensor:
        """Guidance, each line of latents as long as without it, as in the pipeline."""
        return renormalised(super().guide(empty, told, scale), told)

    @property
    def longest(self) -> int:
        """By the tables of places."""
        return min(self.parts["transformer"].config.axes_lens[1:]) * self.size_unit

    def shift(self) -> float:
        """By the number of channels: the pipeline counts them in place of patches."""
        return size_shift(self.scheduler, self.latent_shape[0])


def instructed(prompt: str) -> str:
    """What the text encoder reads of a prompt."""
    return f"{INSTRUCTION} <Prompt Start> {prompt}" if prompt else prompt
