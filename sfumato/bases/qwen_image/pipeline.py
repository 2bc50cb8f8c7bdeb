"""The family's `Base`: the parts of a QwenImagePipeline, joined."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ...compute.device import on_host, to_device
from ...compute.precision import mixed_precision
from ...errors import ModelError
from ..conditioning import Conditioning, tensors
from ..facts import count_of, latent_info, require_channels, settings_of
from ..flow import renormalised
from ..interface import BaseInfo
from ..packing import as_maps, as_tokens, patches, unpatched
from ..pipelines import FlowPipeline, patch_count, size_shift
from ..pixels import from_bytes, to_bytes
from ..text import tokens
from ..together import few_together

LENGTH = 512  # tokens of a prompt that the pipeline keeps
BEFORE = 34  # tokens of the chat before a prompt: the text encoder reads them, and they are cut off
SIDE = 128  # of a latent, which the pipeline draws where it is told no size
ASKED = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity,"
    " text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}"
    "<|im_end|>\n<|im_start|>assistant\n"
)
# Settings of the denoisers that edit pictures or draw in layers.
OTHERS = ("guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")


class QwenImage(FlowPipeline):
    """A QwenImagePipeline. Latents are unpacked; the denoiser reads them as 2x2 patches.

    Its autoencoder is one of videos, of which a picture is the only frame. The last block's text
    reaches nothing, so what makes it is left out.
    """

    family: ClassVar = "qwen-image"
    pipeline: ClassVar = "QwenImagePipeline"
    components: ClassVar = {
        "transformer": {"QwenImageTransformer2DModel"},
        "vae": {"AutoencoderKLQwenImage"},
        "text_encoder": {"Qwen2_5_VLForConditionalGeneration"},
        "tokenizer": {"Qwen2Tokenizer", "Qwen2TokenizerFast"},
        "scheduler": None,
    }
    encoders: ClassVar = ("text_encoder",)
    heeds: ClassVar = {"per_channel": True}
    even_sigmas: ClassVar = True
    any_size: ClassVar = True

    @classmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Reads the facts of a pipeline folder without its weights.

        A folder for another size than the pipeline's own says so as `sample_size`, in pixels, among
        its autoencoder's settings, as other families' do.
        """
        channels = count_of(folder, "vae", "z_dim", 16)
        require_channels(folder, count_of(folder, "transformer", "in_channels", 64), 4 * channels)
        halvings = settings_of(folder, "vae").get("temperal_downsample", [False, True, True])
        if not isinstance(halvings, list):
            raise ModelError(f"vae/config.json of {folder}: temperal_downsample is no list")
        factor = 2 ** len(halvings)
        side = count_of(folder, "vae", "sample_size", SIDE * factor) // factor
        if side < 2 or side % 2:
            raise ModelError(f"vae/config.json of {folder}: sample_size is not in whole patches")
        return latent_info(name, folder, cls.family, channels=channels, side=side, factor=factor)

    def set_up(self) -> None:
        """Also whether the parts fit, and whether the denoiser draws from words alone."""
        super().set_up()
        self.one_at_a_time = threading.Lock()
        # its class has no such setting, so it would be lost when the base is saved
        self.parts["vae"].register_to_config(sample_size=self.resolution)
        config = self.parts["transformer"].config
        if found := [name for name in OTHERS if config.get(name)]:
            raise ModelError(
                f"the denoiser of {self.info.folder} is made with {found[0]}: sfumato adapts"
                " Qwen-Image, not its forms for editing and layers"
            )
        width = self.parts["text_encoder"].config.get_text_config().hidden_size
        if width != config.joint_attention_dim:
            raise ModelError(f"{self.info.folder}: the text encoder does not fit the transformer")

    def unused(self) -> Collection[str]:
        """What makes the last block's text: queries, outputs and feed-forward."""
        last = self.blocks()[-1]
        parts = ("add_q_proj", "norm_added_q", "to_add_out")
        return (
            *(f"{last}.attn.{part}" for part in parts),
            f"{last}.txt_mlp.net.0.proj",
            f"{last}.txt_mlp.net.2",
        )

    def read(self, prompts: Sequence[str], *, cut: bool = False) -> Conditioning:
        """The text encoder's last hidden states behind the pipeline's instruction, and their mask.

        The first tokens, which are the same for all prompts, are cut off.
        """
        encoder = self.parts["text_encoder"]
        ids, mask = (
            to_device(part, encoder.device)
            for part in tokens(
                self.parts["tokenizer"], prompts, LENGTH + BEFORE, cut=cut, write=ASKED.format
            )
        )
        read = encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        text = read.new_zeros(len(prompts), LENGTH, read.shape[-1])
        kept = torch.zeros_like(mask[:, BEFORE:])
        for row, here in enumerate(mask.bool()):
            words = read[row, here][BEFORE:]  # on whichever side the padding is
            text[row, : len(words)], kept[row, : len(words)] = words, 1
        return {"text": text, "mask": kept}

    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The transformer's output, unpacked; it counts time from 0 to 1."""
        told, packed = tensors(condition), patches(noisy)
        height, width = packed.shape[-2:]
        predicted = self.denoiser(
            hidden_states=as_tokens(packed),
            timestep=sigma,
            encoder_hidden_states=told["text"],
            encoder_hidden_states_mask=told["mask"],
            img_shapes=[[(1, height, width)]] * len(noisy),
            return_dict=False,
        )[0]
        return unpatched(as_maps(predicted, height))

    def guide(self, empty: torch.Tensor, told: torch.Tensor, scale: float) -> torch.Tensor:
        """Guidance, each patch as long as without it, as in the pipeline."""
        guided, own = (
            as_tokens(patches(part)) for part in (super().guide(empty, told, scale), told)
        )
        return unpatched(as_maps(renormalised(guided, own), told.shape[-2] // 2))

    def shift(self) -> float:
        """By the number of patches."""
        return size_shift(self.scheduler, patch_count(self.latent_shape, 2))

    @few_together
    @torch.no_grad()
    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the scaled latents of images uint8 [B, R, R, 3]."""
        vae = self.parts["vae"]
        pixels = from_bytes(images, vae.device).unsqueeze(2)
        # It keeps a frame's activations in itself, where another thread would find them.
        with self.one_at_a_time, mixed_precision(self.formats.encode, pixels):
            found = vae.encode(pixels).latent_dist
        mean, std = self.scale.of_mean(found.mean.float()), self.scale.of_deviation(found.std)
        return on_host(mean.squeeze(2)), on_host(std.float().squeeze(2))

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Images uint8 [B, R, R, 3] of scaled latents."""
        vae = self.parts["vae"]
        z = self.scale.inverse(to_device(latents, vae.device).unsqueeze(2))
        with self.one_at_a_time, mixed_precision(self.formats.decode, z):
            pixels = vae.decode(z).sample
        return to_bytes(pixels.squeeze(2))
