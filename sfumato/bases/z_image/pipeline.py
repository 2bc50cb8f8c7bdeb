"""The family's `Base`: the parts of a ZImagePipeline, joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from ...compute.device import to_device
from ...errors import ModelError
from ..conditioning import Conditioning, tensors
from ..facts import count_of, kl_factor, latent_info, require_channels
from ..interface import BaseInfo
from ..pipelines import FlowPipeline, patch_count, size_shift
from ..text import tokens

LENGTH = 512  # tokens that the pipeline reads, the chat's among them
PATCH = 2
# Its rows are patches and words, as many as the prompts make: no record by record.
PACKED = ("all_x_embedder.", "cap_embedder.", "x_pad_token", "cap_pad_token")


class ZImage(FlowPipeline):
    """A ZImagePipeline. Its denoiser counts time from noise to picture, and answers the other way.

    It joins words of all prompts before it embeds them, so a row of its embedders is no record:
    embedders and the tokens of padding stay as they are under every method.

    `guidance_scale` is as for all families, where 1 is none; the pipeline's is one less.
    """

    family: ClassVar = "z-image"
    pipeline: ClassVar = "ZImagePipeline"
    components: ClassVar = {
        "transformer": {"ZImageTransformer2DModel"},
        "vae": {"AutoencoderKL"},
        "text_encoder": {"Qwen3Model", "Qwen3ForCausalLM"},
        "tokenizer": {"Qwen2Tokenizer", "Qwen2TokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    heeds: ClassVar = {"shift": True}
    even_sigmas: ClassVar = True
    any_size: ClassVar = True
    ragged: ClassVar = True  # as many words as the prompts of a pass have, joined

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        channels, factor = count_of(folder, "transformer", "in_channels", 16), kl_factor(folder)
        require_channels(folder, channels, count_of(folder, "vae", "latent_channels", 4))
        side = count_of(folder, "vae", "sample_size", 1024) // factor
        if side % PATCH:
            raise ModelError(f"vae/config.json of {folder}: sample_size is not in whole patches")
        return latent_info(name, folder, cls.family, channels=channels, side=side, factor=factor)

    def set_up(self) -> None:
        """Also whether the text encoder fits, and the patches are those of the pipeline."""
        super().set_up()
        config = self.parts["transformer"].config
        if self.parts["text_encoder"].config.hidden_size != config.cap_feat_dim:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")
        if f"{PATCH}-1" not in self.parts["transformer"].all_x_embedder:
            raise ModelError(f"{self.info.folder} reads no 2x2 patches, as a ZImagePipeline does")

    def learnable(self) -> dict[str, nn.Parameter]:
        """All but the embedders of patches and words."""
        return {
            name: tensor
            for name, tensor in super().learnable().items()
            if not name.startswith(PACKED)
        }

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Last hidden states but one of the text encoder, which reads a chat; and their mask."""
        tokenizer, encoder = self.parts["tokenizer"], self.parts["text_encoder"]

        def asked(prompt: str) -> str:
            return tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )

        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(tokenizer, prompts, LENGTH, cut=cut, write=asked)
        )
        read = encoder(ids, attention_mask=mask.bool(), output_hidden_states=True)
        return {"text": read.hidden_states[-2], "mask": mask}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output with its sign turned: it predicts latent - noise."""
        told = tensors(condition)
        words = [text[here] for text, here in zip(told["text"], told["mask"].bool())]
        found = self.denoiser(
            list(noisy.unsqueeze(2).unbind()), 1 - sigma, words, return_dict=False
        )[0]
        return -torch.stack(found).squeeze(2)

    def guide(self, empty: torch.Tensor, told: torch.Tensor, scale: float) -> torch.Tensor:
        """Guidance as the pipeline adds it up, with a scale one less."""
        return told + (scale - 1) * (told - empty)

    @property
    def size_unit(self) -> int:
        """The side of a patch."""
        return PATCH

    @property
    def longest(self) -> int:
        """By the tables of places."""
        return min(self.parts["transformer"].config.axes_lens[1:]) * PATCH

    def shift(self) -> float:
        """By the number of patches."""
        return size_shift(self.scheduler, patch_count(self.latent_shape, PATCH))
