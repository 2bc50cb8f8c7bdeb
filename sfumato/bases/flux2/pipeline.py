"""The family's `Base`: the parts of a Flux2KleinPipeline, joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...compute.device import on_host, to_device
from ...compute.precision import mixed_precision
from ...errors import ModelError
from ..checks import INDEX_FILE
from ..conditioning import Conditioning, tensors
from ..facts import count_of, kl_factor, latent_info, require_channels
from ..interface import BaseInfo
from ..latents import LatentScale
from ..packing import as_maps, as_tokens, patches, places, unpatched
from ..pipelines import FlowPipeline
from ..pixels import from_bytes, to_bytes
from ..text import tokens
from ..together import few_together
from ..weights import check_settings

LENGTH = 512  # tokens that the pipeline reads
LAYERS = (9, 18, 27)  # of the text model whose outputs the denoiser is told


class Flux2Klein(FlowPipeline):
    """A Flux2KleinPipeline.

    Latents are its autoencoder's modes in 2x2 patches, scaled by public statistics that are stored
    with its weights; as in the published training their deviation is zero.
    """

    family: ClassVar = "flux-2-klein"
    pipeline: ClassVar = "Flux2KleinPipeline"
    components: ClassVar = {
        "transformer": {"Flux2Transformer2DModel"},
        "vae": {"AutoencoderKLFlux2"},
        "text_encoder": {"Qwen3ForCausalLM"},
        "tokenizer": {"Qwen2Tokenizer", "Qwen2TokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights."""
        channels = count_of(folder, "transformer", "in_channels", 128)
        require_channels(folder, channels, 4 * count_of(folder, "vae", "latent_channels", 32))
        factor = 2 * kl_factor(folder)
        side = count_of(folder, "vae", "sample_size", 1024) // factor
        return latent_info(name, folder, cls.family, channels=channels, side=side, factor=factor)

    def set_up(self) -> None:
        """Also the scale of latents, and whether the text model fits."""
        super().set_up()
        vae, config = self.parts["vae"], self.parts["transformer"].config
        spread = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
        self.scale = LatentScale(shift=vae.bn.running_mean.clone(), spread=spread)
        text = self.parts["text_encoder"].config
        if (
            text.num_hidden_layers < max(LAYERS)
            or text.hidden_size * len(LAYERS) != config.joint_attention_dim
        ):
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")
        # One distilled to few steps draws without guidance, whatever the scale.
        said = check_settings(self.info.folder / INDEX_FILE).get("is_distilled", False)
        self.embeds_guidance = self.distilled = said is True

    def settings(self) -> Mapping[str, Any]:
        """Whether it is distilled, as the pipeline's index says."""
        return {"is_distilled": self.distilled}

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """Outputs of three layers of the text model, side by side."""
        tokenizer, encoder = self.parts["tokenizer"], self.parts["text_encoder"]

        def chat(prompt: str) -> str:
            return tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )

        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(tokenizer, prompts, LENGTH, cut=cut, write=chat)
        )
        read = encoder(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
        return torch.cat([read[layer] for layer in LAYERS], -1)

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output; it counts time from 0 to 1."""
        text, height, width = tensors(condition)[""], *noisy.shape[-2:]
        words = torch.zeros(text.shape[1], 4, device=noisy.device)
        words[:, 3] = torch.arange(len(words), device=noisy.device)
        predicted = self.denoiser(
            hidden_states=as_tokens(noisy),
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=text,
            txt_ids=words,
            img_ids=places(height, width, 4, noisy.device),
            return_dict=False,
        )[0]
        return as_maps(predicted, height)

    @few_together
    @torch.no_grad()
    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The scaled modes of images uint8 [B, R, R, 3] in patches, and zeros."""
        vae = self.parts["vae"]
        pixels = from_bytes(images, vae.device)
        with mixed_precision(self.formats.encode, pixels):
            mode = vae.encode(pixels).latent_dist.mode()
        latents = on_host(self.scale.of_mean(patches(mode.float())))
        return latents, torch.zeros_like(latents)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Images uint8 [B, R, R, 3] of scaled patches."""
        vae = self.parts["vae"]
        latents = to_device(latents, vae.device)
        with mixed_precision(self.formats.decode, latents):
            pixels = vae.decode(unpatched(self.scale.inverse(latents))).sample
        return to_bytes(pixels)

    def sampling_times(self, steps: int) -> dict[str, Any]:
        """Shares of noise evenly from 1, shifted by the pipeline's rule of size and steps."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        patches_of_one = self.latent_shape[-2] * self.latent_shape[-1]
        return {
            "sigmas": np.linspace(1.0, 1 / steps, steps),
            "mu": compute_empirical_mu(patches_of_one, steps),
        }
