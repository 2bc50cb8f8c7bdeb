"""Blocks, sets and learnable tensors of diffusers' transformers, by name."""

from typing import Any

import pytest
from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
)
from torch import nn

from sfumato.bases.transformers import TransformerNames, set_of, transformer_blocks


class Named(TransformerNames):
    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser


@pytest.fixture(scope="module")
def two_streams() -> nn.Module:
    some: dict[str, Any] = {"num_layers": 2, "num_single_layers": 11}
    return FluxTransformer2DModel(
        in_channels=16, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=8,
        pooled_projection_dim=8, axes_dims_rope=(2, 2, 4), **some,
    )  # fmt: skip


def test_blocks_come_list_by_list_and_by_number(two_streams: nn.Module) -> None:
    assert transformer_blocks(two_streams) == [f"transformer_blocks.{i}" for i in range(2)] + [
        f"single_transformer_blocks.{i}" for i in range(11)
    ]


def test_sets_hold_every_linear_layer_of_the_blocks_once(two_streams: nn.Module) -> None:
    targets = Named(two_streams).targets
    kinds = ("attention", "feed-forward", "modulation")
    parts = [name for kind in kinds for name in targets[kind]]
    inside = [
        name
        for name, module in two_streams.named_modules()
        if isinstance(module, nn.Linear) and "blocks." in name
    ]
    assert sorted(parts) == sorted(targets["residual"]) == sorted(inside)
    one = "transformer_blocks.1."
    assert [name.removeprefix(one) for name in targets["attention"] if name.startswith(one)] == [
        f"attn.{layer}"
        for layer in (
            "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
            "to_add_out",
        )
    ]  # fmt: skip
    single = "single_transformer_blocks.10."
    assert {single + "proj_mlp", single + "proj_out"} <= set(targets["feed-forward"])
    assert single + "norm.linear" in targets["modulation"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layers.0.attention.to_q", "attention"),
        ("layers.0.feed_forward.w1", "feed-forward"),
        ("layers.0.adaLN_modulation.0", "modulation"),
        ("transformer_blocks.3.img_mod.1", "modulation"),
        ("transformer_blocks.3.img_mlp.net.0.proj", "feed-forward"),
        ("transformer_blocks.3.attn2.to_k", "attention"),
        ("context_embedder", None),
        ("time_text_embed.timestep_embedder.linear_1", None),
    ],
)
def test_the_set_of_a_layer(name: str, kind: str | None) -> None:
    assert set_of(name) == kind


def test_grouped_convolutions_are_in_no_set() -> None:
    model = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8,
        caption_channels=8, sample_size=4,
    )  # fmt: skip
    targets = Named(model).targets
    held = {name for names in targets.values() for name in names}
    assert not any("conv_depth" in name for name in held)
    assert "transformer_blocks.0.ff.conv_inverted" in targets["feed-forward"]
    assert targets["convolutions"][0] == "patch_embed.proj"


def test_layers_and_blocks_of_matrices(two_streams: nn.Module) -> None:
    base = Named(two_streams)
    for matrix, layer, block in (
        ("transformer_blocks.0.attn.to_out.0", "transformer_blocks.0.attn", "transformer_blocks.0"),
        ("transformer_blocks.0.ff.net.2", "transformer_blocks.0.ff", "transformer_blocks.0"),
        ("single_transformer_blocks.9.proj_mlp", *["single_transformer_blocks.9"] * 2),
        ("time_text_embed.text_embedder.linear_1", *["time_text_embed.text_embedder"] * 2),
        ("proj_out", "proj_out", "proj_out"),
    ):
        assert (base.layer_of(matrix), base.block_of(matrix)) == (layer, block)


def test_a_bias_of_keys_trains_only_where_keys_are_normalised() -> None:
    size: dict[str, Any] = {
        "sample_size": 4, "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 4,
        "num_layers": 1, "cross_attention_dim": 8, "caption_channels": 8,
    }  # fmt: skip
    plain = PixArtTransformer2DModel(**size)
    assert not [name for name in Named(plain).learnable() if "to_k.bias" in name]
    assert "transformer_blocks.0.attn1.to_q.bias" in Named(plain).learnable()
    normed = SD3Transformer2DModel(
        sample_size=4, in_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=4,
        joint_attention_dim=8, caption_projection_dim=8, pooled_projection_dim=8, out_channels=4,
        qk_norm="rms_norm",
    )  # fmt: skip
    assert "transformer_blocks.0.attn.to_k.bias" in Named(normed).learnable()
