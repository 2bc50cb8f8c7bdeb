"""Names of layers: attention blocks in their order."""

from __future__ import annotations

import pytest
from torch import nn

from sfumato.bases import load_base
from sfumato.bases.unets import attention_blocks


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
