"""Prompts become conditions of one shape, piece by piece."""

from collections.abc import Sequence

import pytest
import torch

from sfumato import SfumatoError
from sfumato.bases.text import PIECE, embed, tokens
from sfumato.bases.tiny import make_tiny_tokenizer


def test_no_prompt_changes_the_shape_and_the_mask_says_what_is_padding() -> None:
    read = make_tiny_tokenizer()
    ids, mask = tokens(read, ["", "circle", "a picture of a circle"], 8)
    assert ids.shape == mask.shape == (3, 8)
    assert mask.sum(1).tolist() == [2, 3, 7]
    alone, _ = tokens(read, ["circle"], 8)
    assert torch.equal(alone[0], ids[1])


def test_a_long_prompt_is_refused_or_cut() -> None:
    read, long = make_tiny_tokenizer(), "circle " * 9
    with pytest.raises(SfumatoError, match="longer than the base's 8 tokens: shorten it"):
        tokens(read, ["", long], 8)
    ids, _ = tokens(read, [long], 8, cut=True)
    assert ids.shape == (1, 8) and ids[0, -1] == read.eos_token_id


def test_many_prompts_are_read_piece_by_piece() -> None:
    seen: list[int] = []

    def encode(prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        seen.append(len(prompts))
        numbers = torch.tensor([float(prompt) for prompt in prompts])
        return {"text": numbers[:, None].expand(-1, 3), "mask": numbers.long()}

    count = 2 * PIECE + 3
    told = embed(encode, [str(i) for i in range(count)], torch.device("cpu"))
    assert seen == [PIECE, PIECE, 3] and isinstance(told, dict)
    assert torch.equal(told["mask"], torch.arange(count)) and told["text"].shape == (count, 3)
