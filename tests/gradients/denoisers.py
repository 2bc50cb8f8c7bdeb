"""Every denoiser of the installed diffusers that can be built small: its configuration and inputs.

Configurations are the least that the constructors take. An input is a tensor of every row's own, or
one that follows from the number of rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Denoiser:
    """One class of diffusers.

    Attributes:
        kind: The class.
        config: Of its constructor.
        rows: Input -> shape of a row's own numbers.
        ids: Input -> (how many there are, shape) of a row's own whole numbers.
        time: Name of the input of times, and the largest.
        more: Further inputs, from the number of rows.
        call: Puts inputs together where a call takes lists.
        attention: What belongs to attention, by a part of the name.
    """

    kind: str
    config: dict[str, Any]
    rows: dict[str, Shape]
    ids: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    time: tuple[str, float] | None = ("timestep", 1000)
    more: Callable[[int], dict[str, Any]] = lambda n: {}
    call: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given
    attention: tuple[str, ...] = ("attn", "attention")

    def build(self) -> nn.Module:
        """The model with random numbers, none of them zero, as for evaluation."""
        import diffusers

        torch.manual_seed(0)
        model = getattr(diffusers, self.kind)(**self.config)
        with torch.no_grad():
            for p in model.parameters():
                if not p.any():
                    p.normal_(std=0.1)
                elif not p.isfinite().all() or p.abs().max() > 10:  # torch.empty
                    p.normal_(std=0.1)
        return model.eval()

    def data(self, records: int, draws: int) -> dict[str, Tensor]:
        """Inputs [records, draws, ...] of a row's own."""
        g = torch.Generator().manual_seed(1)
        found = {k: torch.randn(records, draws, *s, generator=g) for k, s in self.rows.items()}
        for name, (many, shape) in self.ids.items():
            found[name] = torch.randint(0, many, (records, draws, *shape), generator=g)
        if self.time is not None:
            name, most = self.time
            times = torch.rand(records, draws, generator=g) * most
            found[name] = times.floor() if most > 1 else times
        return found

    def losses(self, model: nn.Module, data: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """Losses of records: a mean of squares over each row's output."""

        takes = inspect.signature(type(model).forward).parameters
        plain = {"return_dict": False} if "return_dict" in takes else {}

        def rows(i: Tensor) -> Tensor:
            given = {name: t[i].flatten(0, 1) for name, t in data.items()}
            n = len(next(iter(given.values())))
            out = model(**self.call(given | self.more(n)), **plain)
            out = out[0] if isinstance(out, tuple) else out
            out = torch.stack(out) if isinstance(out, list) else out
            return (out.reshape(n, -1) - 0.3).square().mean(1)

        return rows


def grid_ids(side: int, axes: int = 3) -> Tensor:
    """Positions [side * side, axes] of the tokens of a picture."""
    ids = torch.zeros(side, side, axes)
    ids[..., -2] += torch.arange(side)[:, None]
    ids[..., -1] += torch.arange(side)[None]
    return ids.reshape(side * side, axes)


def flux(kind: str, *, text: bool = True, axes: int = 3, **config: Any) -> Denoiser:
    """Families with the inputs of Flux: 9 tokens of 4 numbers, 5 of text."""
    rows: dict[str, Shape] = {"hidden_states": (9, 4), "encoder_hidden_states": (5, 8)}
    if text:
        rows["pooled_projections"] = (8,)
    usual = {
        "patch_size": 1,
        "in_channels": 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 8,
        "axes_dims_rope": (4, 4, 8) if axes == 3 else (4, 4, 4, 4),
    }
    return Denoiser(
        kind,
        {k: v for k, v in (usual | config).items() if v is not None},
        rows,
        time=("timestep", 1),
        more=lambda n: {"img_ids": grid_ids(3, axes), "txt_ids": torch.zeros(5, axes)},
    )


UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 2,
    "out_channels": 2,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
TEXT_UNET = UNET | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 4,
}
PIXEL_UNET = UNET | {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}
PLAIN: dict[str, Shape] = {"sample": (2, 8, 8)}
WORDS: dict[str, Shape] = {"sample": (2, 8, 8), "encoder_hidden_states": (3, 8)}


def added(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Moves inputs into `added_cond_kwargs`."""

    def call(given: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in given.items() if k not in names} | {
            "added_cond_kwargs": {name: given[name] for name in names}
        }

    return call


def each(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Takes tensors apart into lists of rows."""
    return lambda given: given | {name: list(given[name]) for name in names}


DENOISERS: dict[str, Denoiser] = {
    "UNet2DModel": Denoiser("UNet2DModel", PIXEL_UNET, PLAIN),
    "UNet2DModel, classes": Denoiser(
        "UNet2DModel",
        PIXEL_UNET | {"num_class_embeds": 5, "resnet_time_scale_shift": "scale_shift"},
        PLAIN,
        {"class_labels": (5, ())},
    ),
    "UNet2DModel, NCSN++": Denoiser(
        "UNet2DModel",
        PIXEL_UNET
        | {
            "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
            "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (32, 64),
            "norm_num_groups": 32,
            "time_embedding_type": "fourier",
            "freq_shift": 0,
        },
        {"sample": (3, 8, 8)},
        time=("timestep", 1),
    ),
    "UNet2DConditionModel, SD": Denoiser("UNet2DConditionModel", TEXT_UNET, WORDS),
    "UNet2DConditionModel, SDXL": Denoiser(
        "UNet2DConditionModel",
        TEXT_UNET
        | {
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 32,
        },
        WORDS | {"text_embeds": (8,), "time_ids": (6,)},
        call=added("text_embeds", "time_ids"),
    ),
    "UNet2DConditionModel, IF": Denoiser(
        "UNet2DConditionModel",
        TEXT_UNET
        | {
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "encoder_hid_dim": 6,
            "encoder_hid_dim_type": "text_proj",
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 2,
            "act_fn": "gelu",
            "resnet_time_scale_shift": "scale_shift",
        },
        {"sample": (2, 8, 8), "encoder_hidden_states": (3, 6)},
    ),
    "UVit2DModel": Denoiser(
        "UVit2DModel",
        {
            "hidden_size": 16,
            "cond_embed_dim": 8,
            "micro_cond_encode_dim": 2,
            "micro_cond_embed_dim": 10,
            "encoder_hidden_size": 8,
            "vocab_size": 12,
            "codebook_size": 10,
            "in_channels": 8,
            "block_out_channels": 8,
            "num_res_blocks": 1,
            "downsample": True,
            "upsample": True,
            "block_num_heads": 2,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "sample_size": 4,
        },
        {"encoder_hidden_states": (3, 8), "pooled_text_emb": (8,), "micro_conds": (5,)},
        {"input_ids": (12, (4, 4))},
        time=None,
    ),
    "StableCascadeUNet": Denoiser(
        "StableCascadeUNet",
        {
            "in_channels": 4,
            "out_channels": 4,
            "conditioning_dim": 16,
            "block_out_channels": (16, 16),
            "num_attention_heads": (2, 2),
            "down_num_layers_per_block": (1, 1),
            "up_num_layers_per_block": (1, 1),
            "down_blocks_repeat_mappers": (1, 1),
            "up_blocks_repeat_mappers": (2, 1),
            "clip_text_in_channels": 8,
            "clip_text_pooled_in_channels": 8,
            "clip_seq": 2,
            "timestep_ratio_embedding_dim": 8,
        },
        {"sample": (4, 4, 4), "clip_text_pooled": (1, 8), "clip_text": (3, 8)},
        time=("timestep_ratio", 1),
    ),
    "DiTTransformer2DModel": Denoiser(
        "DiTTransformer2DModel",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "in_channels": 2,
            "num_layers": 2,
            "sample_size": 4,
            "num_embeds_ada_norm": 5,
            "norm_num_groups": 1,
        },
        {"hidden_states": (2, 4, 4)},
        {"class_labels": (5, ())},
    ),
    "PixArtTransformer2DModel": Denoiser(
        "PixArtTransformer2DModel",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 6,
            "in_channels": 2,
            "out_channels": 4,
            "num_layers": 2,
            "cross_attention_dim": 12,
            "sample_size": 4,
            "num_embeds_ada_norm": 10,
            "norm_num_groups": 1,
            "caption_channels": 8,
            "use_additional_conditions": False,
        },
        {"hidden_states": (2, 4, 4), "encoder_hidden_states": (3, 8)},
        more=lambda n: {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "PixArtTransformer2DModel, sizes": Denoiser(
        "PixArtTransformer2DModel",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 6,
            "in_channels": 2,
            "out_channels": 4,
            "num_layers": 1,
            "cross_attention_dim": 12,
            "sample_size": 4,
            "norm_num_groups": 1,
            "caption_channels": 8,
            "use_additional_conditions": True,
        },
        {
            "hidden_states": (2, 4, 4),
            "encoder_hidden_states": (3, 8),
            "resolution": (2,),
            "aspect_ratio": (1,),
        },
        call=added("resolution", "aspect_ratio"),
    ),
    "SD3Transformer2DModel": Denoiser(
        "SD3Transformer2DModel",
        {
            "sample_size": 4,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 8,
            "pos_embed_max_size": 4,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        {
            "hidden_states": (4, 4, 4),
            "encoder_hidden_states": (3, 8),
            "pooled_projections": (8,),
        },
    ),
    "FluxTransformer2DModel": flux("FluxTransformer2DModel", pooled_projection_dim=8),
    "Flux2Transformer2DModel": flux(
        "Flux2Transformer2DModel",
        text=False,
        axes=4,
        timestep_guidance_channels=8,
        guidance_embeds=False,
    ),
    "Flux3Transformer2DModel": flux(
        "Flux3Transformer2DModel",
        text=False,
        axes=4,
        patch_size=None,
        timestep_channels=8,
        cond_in_channels=4,
    ),
    "ChromaTransformer2DModel": flux(
        "ChromaTransformer2DModel",
        text=False,
        approximator_num_channels=8,
        approximator_hidden_dim=8,
        approximator_layers=1,
    ),
    "BriaTransformer2DModel": flux("BriaTransformer2DModel", text=False),
    "OvisImageTransformer2DModel": flux("OvisImageTransformer2DModel", text=False, out_channels=4),
    "LongCatImageTransformer2DModel": flux(
        "LongCatImageTransformer2DModel", text=False, pooled_projection_dim=8
    ),
    "SanaTransformer2DModel": Denoiser(
        "SanaTransformer2DModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "num_layers": 1,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 4,
            "cross_attention_dim": 8,
            "caption_channels": 8,
            "sample_size": 4,
        },
        {"hidden_states": (4, 4, 4), "encoder_hidden_states": (3, 8)},
    ),
    "ZImageTransformer2DModel": Denoiser(
        "ZImageTransformer2DModel",
        {
            "in_channels": 4,
            "dim": 16,
            "n_layers": 1,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 8,
            "axes_dims": [2, 2, 4],
            "axes_lens": [64, 64, 64],
        },
        {"x": (4, 1, 4, 4), "cap_feats": (5, 8)},
        time=("t", 1),
        call=each("x", "cap_feats"),
    ),
    "Lumina2Transformer2DModel": Denoiser(
        "Lumina2Transformer2DModel",
        {
            "sample_size": 4,
            "in_channels": 4,
            "hidden_size": 24,
            "num_layers": 1,
            "num_refiner_layers": 1,
            "num_attention_heads": 3,
            "num_kv_heads": 1,
            "multiple_of": 2,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (32, 32, 32),
            "cap_feat_dim": 8,
        },
        {"hidden_states": (4, 4, 4), "encoder_hidden_states": (5, 8)},
        time=("timestep", 1),
        more=lambda n: {"encoder_attention_mask": (torch.arange(5) < 4).expand(n, 5)},
    ),
    "LuminaNextDiT2DModel": Denoiser(
        "LuminaNextDiT2DModel",
        {
            "sample_size": 4,
            "in_channels": 4,
            "hidden_size": 16,
            "num_layers": 1,
            "num_attention_heads": 2,
            "num_kv_heads": 2,
            "multiple_of": 2,
            "cross_attention_dim": 8,
            "learn_sigma": False,
        },
        {"hidden_states": (4, 8, 8), "encoder_hidden_states": (3, 8)},
        time=("timestep", 1),
        more=lambda n: {
            "encoder_mask": torch.ones(n, 3, dtype=torch.bool),
            "image_rotary_emb": torch.polar(
                torch.ones(4, 4, 4), torch.arange(64.0).view(4, 4, 4) / 9
            ),
            "cross_attention_kwargs": {},
        },
    ),
    "AuraFlowTransformer2DModel": Denoiser(
        "AuraFlowTransformer2DModel",
        {
            "sample_size": 8,
            "in_channels": 4,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "caption_projection_dim": 16,
            "pos_embed_max_size": 36,
        },
        {"hidden_states": (4, 8, 8), "encoder_hidden_states": (3, 8)},
        time=("timestep", 1),
    ),
    "HunyuanDiT2DModel": Denoiser(
        "HunyuanDiT2DModel",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "in_channels": 4,
            "patch_size": 2,
            "sample_size": 4,
            "hidden_size": 16,
            "num_layers": 2,
            "cross_attention_dim": 8,
            "cross_attention_dim_t5": 8,
            "pooled_projection_dim": 4,
            "text_len": 3,
            "text_len_t5": 4,
        },
        {
            "hidden_states": (4, 4, 4),
            "encoder_hidden_states": (3, 8),
            "encoder_hidden_states_t5": (4, 8),
            "image_meta_size": (6,),
        },
        {"style": (1, ())},
        more=lambda n: {
            "text_embedding_mask": torch.ones(n, 3, dtype=torch.long),
            "text_embedding_mask_t5": torch.ones(n, 4, dtype=torch.long),
            "image_rotary_emb": tuple(torch.arange(64.0).view(2, 4, 8) / 64),
        },
    ),
    "HunyuanImageTransformer2DModel": Denoiser(
        "HunyuanImageTransformer2DModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_refiner_layers": 1,
            "text_embed_dim": 8,
            "rope_axes_dim": (4, 4),
        },
        {"hidden_states": (4, 4, 4), "encoder_hidden_states": (5, 8)},
        more=lambda n: {"encoder_attention_mask": torch.ones(n, 5, dtype=torch.bool)},
    ),
    "CogView4Transformer2DModel": Denoiser(
        "CogView4Transformer2DModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "text_embed_dim": 8,
            "time_embed_dim": 8,
            "condition_dim": 4,
            "sample_size": 4,
            "rope_axes_dim": (8, 8),
        },
        {
            "hidden_states": (4, 8, 8),
            "encoder_hidden_states": (5, 8),
            "original_size": (2,),
            "target_size": (2,),
            "crop_coords": (2,),
        },
    ),
    "CogView3PlusTransformer2DModel": Denoiser(
        "CogView3PlusTransformer2DModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "text_embed_dim": 8,
            "time_embed_dim": 8,
            "condition_dim": 4,
            "pos_embed_max_size": 8,
            "sample_size": 8,
        },
        {
            "hidden_states": (4, 8, 8),
            "encoder_hidden_states": (5, 8),
            "original_size": (2,),
            "target_size": (2,),
            "crop_coords": (2,),
        },
    ),
    "QwenImageTransformer2DModel": Denoiser(
        "QwenImageTransformer2DModel",
        {
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "axes_dims_rope": (8, 4, 4),
        },
        {"hidden_states": (9, 16), "encoder_hidden_states": (5, 8)},
        time=("timestep", 1),
        more=lambda n: {
            "encoder_hidden_states_mask": torch.ones(n, 5, dtype=torch.long),
            "img_shapes": [[(1, 3, 3)]] * n,
        },
    ),
    "Kandinsky5Transformer3DModel": Denoiser(
        "Kandinsky5Transformer3DModel",
        {
            "in_visual_dim": 4,
            "in_text_dim": 8,
            "in_text_dim2": 8,
            "time_dim": 16,
            "out_visual_dim": 4,
            "model_dim": 16,
            "ff_dim": 16,
            "num_text_blocks": 1,
            "num_visual_blocks": 1,
            "axes_dims": (4, 2, 2),
        },
        {
            "hidden_states": (1, 4, 4, 4),
            "encoder_hidden_states": (5, 8),
            "pooled_projections": (8,),
        },
        more=lambda n: {
            "visual_rope_pos": (torch.arange(1), torch.arange(2), torch.arange(2)),
            "text_rope_pos": torch.arange(5),
        },
    ),
    "PRXTransformer2DModel": Denoiser(
        "PRXTransformer2DModel",
        {
            "in_channels": 4,
            "context_in_dim": 8,
            "hidden_size": 16,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 1,
            "axes_dim": [4, 4],
        },
        {"hidden_states": (4, 4, 4), "encoder_hidden_states": (3, 8)},
        time=("timestep", 1),
    ),
    "ErnieImageTransformer2DModel": Denoiser(
        "ErnieImageTransformer2DModel",
        {
            "hidden_size": 16,
            "num_attention_heads": 1,
            "num_layers": 1,
            "ffn_hidden_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "text_in_dim": 8,
            "rope_axes_dim": (8, 4, 4),
        },
        {"hidden_states": (4, 2, 2), "text_bth": (2, 8)},
        more=lambda n: {"text_lens": torch.full((n,), 2)},
    ),
    "GlmImageTransformer2DModel": Denoiser(
        "GlmImageTransformer2DModel",
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "text_embed_dim": 8,
            "time_embed_dim": 8,
            "condition_dim": 4,
            "prior_vq_quantizer_codebook_size": 6,
        },
        {
            "hidden_states": (4, 4, 4),
            "encoder_hidden_states": (5, 8),
            "target_size": (2,),
            "crop_coords": (2,),
        },
        {"prior_token_id": (6, (4,))},
        more=lambda n: {"prior_token_drop": torch.zeros(n, 4, dtype=torch.bool)},
    ),
    "Krea2Transformer2DModel": Denoiser(
        "Krea2Transformer2DModel",
        {
            "in_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 16,
            "timestep_embed_dim": 8,
            "text_hidden_dim": 8,
            "num_text_layers": 2,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 8,
            "num_layerwise_text_blocks": 1,
            "num_refiner_text_blocks": 1,
            "axes_dims_rope": (8, 4, 4),
        },
        {"hidden_states": (4, 4), "encoder_hidden_states": (3, 2, 8)},
        time=("timestep", 1),
        more=lambda n: {"position_ids": torch.cat([torch.zeros(3, 3), grid_ids(2)])},
    ),
    "HiDreamImageTransformer2DModel": Denoiser(
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "caption_channels": [8, 8],
            "text_emb_dim": 8,
            "axes_dims_rope": (4, 2, 2),
            "max_resolution": (4, 4),
            "llama_layers": (0, 1),
            "force_inference_output": True,
        },
        {
            "hidden_states": (4, 8, 8),
            "encoder_hidden_states_t5": (3, 8),
            "llama": (2, 3, 8),
            "pooled_embeds": (8,),
        },
        time=("timesteps", 1000),
        call=lambda given: (
            {k: v for k, v in given.items() if k != "llama"}
            | {"encoder_hidden_states_llama3": given["llama"].transpose(0, 1)}
        ),
    ),
    "NucleusMoEImageTransformer2DModel": Denoiser(
        "NucleusMoEImageTransformer2DModel",
        {
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "axes_dims_rope": (8, 4, 4),
            "moe_enabled": True,
            "dense_moe_strategy": "none",
            "num_experts": 2,
            "moe_intermediate_dim": 8,
            "capacity_factors": [1.0],
        },
        {"hidden_states": (9, 16), "encoder_hidden_states": (5, 8)},
        time=("timestep", 1),
        more=lambda n: {
            "encoder_hidden_states_mask": torch.ones(n, 5, dtype=torch.long),
            "img_shapes": [(1, 3, 3)] * n,
        },
    ),
    "OmniGenTransformer2DModel": Denoiser(
        "OmniGenTransformer2DModel",
        {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 16,
            "num_layers": 1,
            "pad_token_id": 0,
            "vocab_size": 10,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 64,
            "pos_embed_max_size": 4,
            "time_step_dim": 8,
            "rope_scaling": {"long_factor": [1] * 4, "short_factor": [1] * 4},
        },
        {"hidden_states": (4, 4, 4)},
        {"input_ids": (10, (6,))},
        time=("timestep", 1),
        more=lambda n: {
            "input_img_latents": [],
            "input_image_sizes": {},
            "attention_mask": torch.ones(n, 6 + 5, 6 + 5, dtype=torch.long),
            "position_ids": torch.arange(6 + 5).expand(n, -1),
        },
    ),
    "PriorTransformer": Denoiser(
        "PriorTransformer",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "num_layers": 1,
            "embedding_dim": 8,
            "num_embeddings": 3,
            "additional_embeddings": 4,
        },
        {"hidden_states": (8,), "proj_embedding": (8,), "encoder_hidden_states": (3, 8)},
    ),
}
