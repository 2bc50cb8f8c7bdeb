"""Choosing what to train, by exact module names."""

from __future__ import annotations

import pytest

from sfumato.bases import load_base
from sfumato.bases.unets import PROJECTIONS
from sfumato.errors import SfumatoError
from sfumato.methods.targets import block_range, matching_modules


@pytest.fixture(scope="module")
def base(whole_tiny_base):
    return load_base(whole_tiny_base)


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


def test_a_denoiser_without_attention_is_refused():
    with pytest.raises(SfumatoError, match="no attention blocks"):
        block_range([], None)


def test_every_suffix_matches_at_a_dot_to_out_included(base):
    found = matching_modules(base, PROJECTIONS)
    blocks = len(base.blocks())
    for suffix in PROJECTIONS:
        assert sum(name.endswith("." + suffix) for name in found) == 2 * blocks
    assert len(found) == len(set(found)) == 8 * blocks
    assert matching_modules(base, ["proj_in"]) and len(matching_modules(base, ["conv_in"])) == 1


@pytest.mark.parametrize("suffix", ["to_out", "o_q", "attn1", "", "norm1"])
def test_a_suffix_without_a_match_is_refused_by_name(base, suffix):
    with pytest.raises(SfumatoError, match="--target-modules"):
        matching_modules(base, ["to_q", suffix])
