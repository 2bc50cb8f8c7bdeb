"""The family's `Base`: the parts of a StableDiffusionXLPipeline, joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from ...compute.device import to_device
from ...errors import ModelError
from ..checks import INDEX_FILE
from ..conditioning import Conditioning, tensors
from ..embeds import PARTS
from ..interface import BaseInfo
from ..latents import LatentScale, latent_scale
from ..stable_diffusion import StableDiffusion
from ..weights import check_settings

SIZES = 6  # that it is told: height and width of the original, top and left, height and width


@dataclass
class StableDiffusionXL(StableDiffusion):
    """A StableDiffusionXLPipeline with both text encoders: the base, not the refiner.

    The sizes that it is told are public: uncropped, as large as the base draws, or as the bucket
    is. What a picture was scaled from is not told, since that would be a private number.
    """

    family: ClassVar = "stable-diffusion-xl"
    components: ClassVar = {
        **StableDiffusion.components,
        "text_encoder_2": {"CLIPTextModelWithProjection"},
        "tokenizer_2": {"CLIPTokenizer", "CLIPTokenizerFast"},
    }
    pipeline: ClassVar = "StableDiffusionXLPipeline"
    optional: ClassVar = ("feature_extractor", "image_encoder")
    added: ClassVar = "text_time"

    text_encoder_2: Any
    tokenizer_2: Any
    zeros_for_empty: bool = True

    @classmethod
    def load(cls, info: BaseInfo) -> Self:
        """As of Stable Diffusion, and whether the empty prompt tells nothing."""
        base = super().load(info)
        index = check_settings(info.folder / INDEX_FILE)
        # the pipeline's own default
        base.zeros_for_empty = index.get("force_zeros_for_empty_prompt", True) is not False
        return base

    @classmethod
    def _classes(cls) -> dict[str, type]:
        from transformers import CLIPTextModelWithProjection

        return {**super()._classes(), "text_encoder_2": CLIPTextModelWithProjection}

    def _check_fit(self) -> None:
        folder, config = self.info.folder, self.unet.config
        first, second = self.text_encoder.config, self.text_encoder_2.config
        if config.cross_attention_dim != first.hidden_size + second.hidden_size:
            raise ModelError(
                f"{folder}: the text encoders' widths together do not fit the denoiser's"
                " cross-attention"
            )
        told = second.projection_dim + SIZES * config.addition_time_embed_dim
        if config.projection_class_embeddings_input_dim != told:
            raise ModelError(
                f"{folder}: the denoiser is not told a pooled text and six sizes, as the SDXL base"
                " is: take that one"
            )
        if self.tokenizer.get_vocab() != self.tokenizer_2.get_vocab():
            raise ModelError(f"{folder}: its two tokenizers have different vocabularies")
        lengths = {tokenizer.model_max_length for _, tokenizer in self.readers}
        if len(lengths) > 1:
            raise ModelError(f"{folder}: its two text encoders read texts of different lengths")

    @property
    def scale(self) -> LatentScale:
        """Factor of the latents, and statistics per channel where the autoencoder has them."""
        return latent_scale(self.vae, per_channel=True)

    @property
    def readers(self) -> list[tuple[Any, Any]]:
        """Both text encoders, each with its tokenizer."""
        return [(self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)]

    def read(self, ids: Sequence[torch.Tensor], ends: torch.Tensor | None) -> Conditioning:
        """Last hidden states but one side by side, and the second encoder's pooled text."""
        read = [
            encoder(own, output_hidden_states=True) for (encoder, _), own in zip(self.readers, ids)
        ]
        pooled, last = read[1].text_embeds, read[1].last_hidden_state
        if ends is not None:
            # Configs of old CLIPs say end 2, and the largest id is then taken for the text's end:
            # a new token. What the pipeline will see is what training sees.
            end = ends[1] if self.text_encoder_2.config.eos_token_id == 2 else ends[0]
            row = torch.arange(len(last), device=last.device)
            pooled = self.text_encoder_2.text_projection(last[row, end])
        text = torch.cat([of.hidden_states[-2] for of in read], -1)
        return {"text": text, "pooled": pooled}

    def embed_texts(
        self, texts: Sequence[str], ids_of: Callable[[Any, Sequence[str]], torch.Tensor]
    ) -> Conditioning:
        """Text and pooled text.

        Zeros for the empty one, where the pipeline's `force_zeros_for_empty_prompt` says so: what
        it is guided away from.
        """
        read = tensors(super().embed_texts(texts, ids_of))
        if self.zeros_for_empty:
            told = torch.tensor([bool(text) for text in texts], device=self.told_on)
            for name in ("text", "pooled"):
                part = read[name]
                read[name] = part * told.view(-1, *[1] * (part.ndim - 1)).to(part.dtype)
        return read

    def _told(
        self, condition: Any, noisy: torch.Tensor, guidance_scale: float = 1.0
    ) -> dict[str, Any]:
        text = condition["text"]
        factor = self.info.resolution // self.info.latent_shape[1]
        height, width = (factor * side for side in noisy.shape[-2:])
        # of original and target, and between them where the crop begins
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=text.dtype)
        added = {
            "text_embeds": condition["pooled"],
            "time_ids": to_device(sizes, text.device).expand(len(text), -1),
        }
        return {**super()._told(text, noisy, guidance_scale), "added_cond_kwargs": added}

    @property
    def token_parts(self) -> dict[str, int]:
        """The encoders' names in token files and their widths."""
        return dict(zip(PARTS, self.widths))

    def as_pipeline(self) -> Any:
        """The base as a StableDiffusionXLPipeline that shares its modules."""
        from diffusers import StableDiffusionXLPipeline

        return StableDiffusionXLPipeline(
            self.vae,
            self.text_encoder,
            self.text_encoder_2,
            self.tokenizer,
            self.tokenizer_2,
            self.unet,
            self.scheduler,
            force_zeros_for_empty_prompt=self.zeros_for_empty,
            add_watermarker=False,
        )
