"""Bases of random numbers: the same for the same name, opened by plain diffusers."""

from __future__ import annotations

import pytest
import torch

from sfumato.bases import PROPOSED, base_info, load_base, own_name, resolve_base, scratch_name
from sfumato.bases.scratch import widths, write_scratch
from sfumato.errors import SfumatoError


def test_a_name_is_a_base_and_follows_from_nothing_else(tmp_path):
    assert scratch_name("none") == own_name("none") == "none:28x28x1"
    assert scratch_name("./none") is scratch_name("nonesuch") is None
    assert own_name("letters") == "letters"
    write_scratch(tmp_path / "a", 8, 1)
    torch.manual_seed(5)
    write_scratch(tmp_path / "b", 8, 1)
    one, other = (base_info(tmp_path / name) for name in "ab")
    assert one.digest == other.digest == base_info("none:8x8x1").digest
    assert one.condition == "class" and one.latent_shape == (1, 8, 8)


def test_plain_diffusers_opens_it_and_a_class_of_ones_own_starts_somewhere():
    from diffusers import DDPMPipeline

    pipe = DDPMPipeline.from_pretrained(resolve_base("none:8x8x3"))
    assert pipe.unet.config.in_channels == 3 and pipe.unet.config.num_class_embeds == 2
    base = load_base("none:8x8x3")
    assert base.unknown_words(["seven"]) == ["seven"]
    (row,) = base.add_tokens(["<seven>"], [None])
    assert base.condition(["<seven>"]).shape == (1, base.table.rows.shape[1]) and row == 2


@pytest.mark.parametrize("size", PROPOSED)
def test_the_coarsest_level_is_small(size):
    side = int(size.split(":")[1].split("x")[0])
    assert scratch_name(size) == size and side / 2 ** (len(widths(side)) - 1) <= 8


@pytest.mark.parametrize("size", ["", "28", "28x32x1", "28x28x2", "30x30x1", "4x4x1", "256x256x3"])
def test_other_sizes_are_refused(size):
    with pytest.raises(SfumatoError, match=r"SIDExSIDExCHANNELS"):
        scratch_name(f"none:{size}")
