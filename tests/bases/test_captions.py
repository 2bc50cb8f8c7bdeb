"""Captions are told by a rule that no caption breaks, and that no other caption moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.bases import Base, caption_base, load_base
from sfumato.bases.captions import MOST_SIGNS, plain
from sfumato.bases.conditioning import tensors
from sfumato.errors import ModelError, SfumatoError
from sfumato.training.texts import read_alone
from tests.bases import tiny_pipelines
from tests.bases.text_families import EACH

# of another language, of no letter, broken, endless, and what tokenizers or templates may read
ODD = (
    "",
    " \n\t",
    "\u5c0f\u9ce5 \u0631\u0633\u0645",
    "\ud800\udfff\0\x1b[2J",
    "a\u202eb",
    "x" * 10_000,
    "\U0001f426" * 40,
    "{} {0} {{ message }} %s %d%00 &#0;&lt;br/&gt; <|im_end|><pad></s><mask>",
)


@pytest.fixture(scope="module", params=[*EACH, "stable_diffusion_3_without_t5"])
def base(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> Base:
    return load_base(folder_of(request.param))


def told(base: Base, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    try:
        return read_alone(base.condition_of_captions, captions)
    except SfumatoError as error:  # after the charge nothing may fail
        pytest.fail(f"a caption was refused: {error}")


def test_no_caption_is_refused_and_none_shapes_its_row(base: Base) -> None:
    prompt = {name: part[0] for name, part in tensors(base.condition(["cross"])).items()}
    for caption in ODD:
        found = told(base, [caption])
        assert list(found) == list(prompt)
        for name, part in found.items():
            assert part[0].shape == prompt[name].shape and part.dtype == prompt[name].dtype
            assert torch.isfinite(part).all()


def test_a_caption_says_what_the_same_prompt_says(base: Base) -> None:
    texts = ["a picture of a circle", "cross", "small letter"]
    prompts = tensors(base.condition(texts))
    for name, part in told(base, texts).items():
        torch.testing.assert_close(part[:-1], prompts[name], rtol=1e-5, atol=1e-5)


def test_a_long_caption_is_cut_where_the_encoder_ends(base: Base) -> None:
    long, short = (told(base, [text]) for text in ("a " * 1500, "a " * 1000))
    assert all(torch.equal(part, short[name]) for name, part in long.items())


def test_what_is_plain() -> None:
    assert len(plain("\0" * 3 + "b" * 2 * MOST_SIGNS)) == MOST_SIGNS - 3
    assert plain(" a\n\ud800b\u202e c ") == "a b c"


def test_a_base_without_a_rule_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    base = load_base(tiny_pipelines.stable_diffusion(tmp_path / "base"))
    assert caption_base(base) is base
    monkeypatch.setattr(type(base), "condition_of_captions", Base.condition_of_captions)
    with pytest.raises(ModelError, match="no rule for captions yet.*--condition classes"):
        caption_base(base)
    untold = load_base(tiny_pipelines.ddpm(tmp_path / "ddpm"))
    with pytest.raises(ModelError, match="reads no texts"):
        caption_base(untold)
