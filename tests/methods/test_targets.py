"""Choosing what to train, by exact module names."""

from __future__ import annotations

import pytest
from torch import nn

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.methods.targets import PROJECTIONS, attention_blocks, block_range, matching_modules


@pytest.fixture(scope="module")
def unet(tiny_base):
    return load_base(tiny_base).unet


def test_blocks_are_counted_down_mid_up(unet):
    blocks = attention_blocks(unet)
    assert blocks == [
        "down_blocks.1.attentions.0",
        "mid_block.attentions.0",
        "up_blocks.0.attentions.0",
        "up_blocks.0.attentions.1",
    ]


def test_numbers_are_ordered_as_numbers():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.up_blocks = nn.ModuleList(nn.Module() for _ in range(12))
            for block in self.up_blocks:
                block.attentions = nn.ModuleList([nn.Identity()])

    assert attention_blocks(Many())[-2:] == [
        "up_blocks.10.attentions.0",
        "up_blocks.11.attentions.0",
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(None, "abcd"), ("2-", "bcd"), ("2-3", "bc"), ("4", "d"), ("1-4", "abcd"), ("3-3", "c")],
)
def test_ranges(wanted, expected):
    assert "".join(block_range("abcd", wanted)) == expected


@pytest.mark.parametrize("wanted", ["", "0", "5", "3-2", "2-5", "-2", "a", "1,2", "1-2-3", " 1"])
def test_ranges_refused(wanted):
    with pytest.raises(SfumatoError, match="--blocks"):
        block_range("abcd", wanted)


def test_every_suffix_matches_at_a_dot_to_out_included(unet):
    found = matching_modules(unet, PROJECTIONS)
    blocks = len(attention_blocks(unet))
    for suffix in PROJECTIONS:
        assert sum(name.endswith("." + suffix) for name in found) == 2 * blocks
    assert len(found) == len(set(found)) == 8 * blocks
    assert matching_modules(unet, ["proj_in"]) and len(matching_modules(unet, ["conv_in"])) == 1


@pytest.mark.parametrize("suffix", ["to_out", "o_q", "attn1", "", "norm1"])
def test_a_suffix_without_a_match_is_refused_by_name(unet, suffix):
    with pytest.raises(SfumatoError, match="--target-modules"):
        matching_modules(unet, ["to_q", suffix])
