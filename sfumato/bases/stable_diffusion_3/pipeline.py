"""The family's `Base`: the parts of a StableDiffusion3Pipeline, joined."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..conditioning import Conditioning, tensors
from ..facts import info_by_denoiser
from ..interface import BaseInfo
from ..pipelines import FlowPipeline, patch_count, size_shift
from ..text import pooled_and_last_but_one, tokens

LENGTH = 256  # tokens that the pipeline lets its third encoder read


class StableDiffusion3(FlowPipeline):
    """A StableDiffusion3Pipeline, with its third text encoder or without.

    The last block gives no text, so queries of the text reach nothing there and are left out.
    """

    family: ClassVar = "stable-diffusion-3"
    pipeline: ClassVar = "StableDiffusion3Pipeline"
    components: ClassVar = {
        "transformer": {"SD3Transformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"CLIPTextModelWithProjection"},
        "tokenizer": {"CLIPTokenizer", "CLIPTokenizerFast"},
        "text_encoder_2": {"CLIPTextModelWithProjection"},
        "tokenizer_2": {"CLIPTokenizer", "CLIPTokenizerFast"},
        "text_encoder_3": {"T5EncoderModel"},
        "tokenizer_3": {"T5Tokenizer", "T5TokenizerFast"},
        "scheduler": None,
    }
    optional: ClassVar = ("image_encoder", "feature_extractor")
    dispensable: ClassVar = ("text_encoder_3", "tokenizer_3")
    encoders: ClassVar = ("text_encoder", "text_encoder_2", "text_encoder_3")
    heeds: ClassVar = {"shift": True}
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        return info_by_denoiser(cls, name, folder, channels=16, side=128)

    def set_up(self) -> None:
        """Also whether the text encoders fit the transformer."""
        super().set_up()
        config = self.parts["transformer"].config
        clips = [self.parts[name].config for name in ("text_encoder", "text_encoder_2")]
        third = self.parts.get("text_encoder_3")
        fit = (
            sum(clip.projection_dim for clip in clips) == config.pooled_projection_dim
            and sum(clip.hidden_size for clip in clips) <= config.joint_attention_dim
            and (third is None or third.config.d_model == config.joint_attention_dim)
        )
        if not fit:
            raise ModelError(f"{self.info.folder}: the text encoders do not fit the transformer")

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Hidden states of both CLIP encoders beside each other, then T5's; and pooled texts.

        CLIP reads the beginning of a prompt that is longer, as in the pipeline.
        """
        whole = "text_encoder_3" in self.parts
        read = [
            pooled_and_last_but_one(self.parts[e], self.parts[t], prompts, cut=cut or whole)
            for e, t in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
        ]
        clip = torch.cat([states for _, states in read], -1)
        width = self.parts["transformer"].config.joint_attention_dim
        clip = torch.nn.functional.pad(clip, (0, width - clip.shape[-1]))
        if whole:
            encoder = self.parts["text_encoder_3"]
            ids, _ = tokens(self.parts["tokenizer_3"], prompts, LENGTH, cut=cut)
            last = encoder(to_device(ids, encoder.device))[0]
        else:
            last = clip.new_zeros(len(prompts), LENGTH, width)
        return {"text": torch.cat([clip, last], 1), "pooled": torch.cat([p for p, _ in read], -1)}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output; it counts time from 0 to 1,000."""
        told = tensors(condition)
        return self.denoiser(
            hidden_states=noisy,
            timestep=sigma * self.scheduler.config.num_train_timesteps,
            encoder_hidden_states=told["text"],
            pooled_projections=told["pooled"],
            return_dict=False,
        )[0]

    @property
    def longest(self) -> int:
        """By the table of places, whose middle is read."""
        return self.parts["transformer"].config.pos_embed_max_size * self.size_unit

    def shift(self) -> float:
        """By the number of patches."""
        return size_shift(self.scheduler, patch_count(self.latent_shape, self.size_unit), 1.16)

    def unused(self) -> Collection[str]:
        """Queries of the text in the last block."""
        last = self.blocks()[-1]
        return (f"{last}.attn.add_q_proj", f"{last}.attn.norm_added_q")
