"""Captions become token ids by a rule that no caption breaks, and that no other caption moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.bases import caption_base, load_base
from sfumato.bases.captions import MOST_SIGNS, plain
from sfumato.bases.conditioning import tensors
from sfumato.bases.interface import Base
from sfumato.errors import ModelError
from tests.bases import tiny_pipelines

# of another language, of no letter, broken, endless
ODD = (
    "",
    " \n\t",
    "\u5c0f\u9ce5 \u0631\u0633\u0645",
    "\ud800\udfff\0\x1b[2J",
    "a\u202eb",
    "x" * 10_000,
    "\U0001f426" * 40,
)


@pytest.fixture(scope="module", params=["stable_diffusion", "stable_diffusion_xl"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "base"
    return load_base(getattr(tiny_pipelines, request.param)(folder))


def same(one, other) -> bool:
    found = tensors(other)
    return all(torch.equal(part, found[name]) for name, part in tensors(one).items())


def test_no_caption_is_refused(base):
    found = base.caption_tokens(ODD)
    assert len(found) == len(ODD) and found.dtype == np.int32 and (found >= 0).all()
    assert base.caption_tokens([]).shape == (0, found.shape[1])
    told = tensors(base.condition_of_tokens(torch.from_numpy(found).long()))
    assert all(torch.isfinite(part).all() for part in told.values())


def test_no_caption_shapes_another_ones_row(base):
    alone = base.caption_tokens(["a picture"])
    for other in ODD:
        found = base.caption_tokens([other, "a picture", other])[1]
        assert found.tolist() == alone[0].tolist()
    assert base.caption_tokens(["a"]).shape == base.caption_tokens(["a b c d e f g h i"]).shape


def test_a_caption_says_what_the_same_prompt_says(base):
    texts = ["a picture of a circle", "cross", "small letter"]
    ids = torch.from_numpy(base.caption_tokens(texts)).long()
    assert same(base.condition_of_tokens(ids), base.condition(texts))


def test_a_long_caption_is_cut_where_the_encoder_ends(base):
    long, short = base.caption_tokens(["a " * 500, "a " * 300])
    assert (long == short).all()
    assert len(plain("\0" * 3 + "b" * 2 * MOST_SIGNS)) == MOST_SIGNS - 3


def test_a_base_without_a_rule_is_refused(base, tmp_path, monkeypatch):
    assert caption_base(base) is base
    monkeypatch.setattr(type(base), "caption_tokens", Base.caption_tokens)
    with pytest.raises(ModelError, match="no rule for captions yet.*--condition classes"):
        caption_base(base)
    untold = load_base(tiny_pipelines.ddpm(tmp_path / "ddpm"))
    with pytest.raises(ModelError, match="reads no texts"):
        caption_base(untold)
