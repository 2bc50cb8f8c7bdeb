"""The denoiser as the sampler calls it.

Prompts do not change from step to step, so their projections are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from ...compute.precision import mixed_precision
from ..interface import Denoise


def make_denoise(
    unet: Any,
    precision: torch.dtype = torch.float32,
    told: Callable[[Any, torch.Tensor], dict[str, Any]] = lambda text, _: {
        "encoder_hidden_states": text
    },
) -> Denoise:
    """denoise(latents, t, condition, memory) -> prediction, for sampling, from any thread.

    latents [B, C, h, w], prediction float32 [B, C, h, w]. `memory` is a dict of the caller's, empty
    at first: one for each condition, used for all its steps. Keys and values of the prompts stay in
    it, so that they are computed once. The prediction is that of `unet` itself, to the last bit; a
    denoiser with any other than the plain attention that `StableDiffusion.load` gives small bases
    is called as it is. Weights are shared with `unet`, which is not changed.

    Args:
        unet: A UNet2DConditionModel.
        precision: Of its products.
        told: Condition and latents -> arguments of the U-Net; by default a text [B, L, D].
    """
    keeps = _is_plain(unet)
    if keeps:
        unet = copy.deepcopy(unet, {id(p): p for p in unet.parameters()})
        unet.set_attn_processor(_PlainAttention())

    @torch.no_grad()
    def denoise(
        latents: torch.Tensor, t: torch.Tensor, condition: Any, memory: dict
    ) -> torch.Tensor:
        more = {"cross_attention_kwargs": {"memory": memory}} if keeps else {}
        with mixed_precision(precision, latents):
            return unet(latents, t, **told(condition, latents), **more).sample.float()

    return denoise


def _is_plain(unet) -> bool:
    """Whether `_PlainAttention` does all that the denoiser's own attention does."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    layers = [m for m in unet.modules() if hasattr(m, "processor")]
    return len(layers) == len(unet.attn_processors) and all(
        type(layer) is Attention
        and type(layer.processor) is AttnProcessor
        and layer.spatial_norm is None
        and layer.group_norm is None
        and not layer.norm_cross
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
        for layer in layers
    )


class _PlainAttention:
    """softmax(q k^T / sqrt(d)) v over heads, as diffusers' AttnProcessor.

    With keys and values of prompts in `memory`.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        memory: Any = None,
    ) -> torch.Tensor:
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        if encoder_hidden_states is None:
            key, value = self.project(attn, hidden_states)
        else:
            if attn not in memory:
                memory[attn] = self.project(attn, encoder_hidden_states)
            key, value = memory[attn]
        weights = attn.get_attention_scores(query, key, attention_mask)
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(weights, value)))

    @staticmethod
    def project(attn, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return attn.head_to_batch_dim(attn.to_k(context)), attn.head_to_batch_dim(
            attn.to_v(context)
        )
