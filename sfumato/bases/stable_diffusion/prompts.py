"""Prompts to tokens and text conditions; and words of one's own in a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...compute.device import on_host, to_device
from ...errors import SfumatoError

SMALL_VOCABULARY = 10_000


def tokenize(tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """Token ids int64 [P, L]; SfumatoError if a prompt is longer than the encoder reads."""
    longest = tokenizer.model_max_length
    prompts = [every_vector(tokenizer, prompt) for prompt in prompts]
    for prompt in prompts:
        if len(tokenizer(prompt, truncation=False, verbose=False).input_ids) > longest:
            raise SfumatoError(
                f"the prompt {prompt[:60]!r} is longer than the base's {longest} tokens: shorten it"
            )
    return tokenizer(
        list(prompts), padding="max_length", max_length=longest, return_tensors="pt"
    ).input_ids


def every_vector(tokenizer: Any, prompt: str) -> str:
    """The prompt with `<token> <token>_1 ...` for an added token of several vectors.

    As diffusers' pipelines write it.
    """
    added = tokenizer.added_tokens_encoder
    for token in added:
        if f"{token}_1" in added and token in prompt:
            count = next(i for i in range(1, len(added) + 1) if f"{token}_{i}" not in added)
            prompt = prompt.replace(
                token, " ".join([token, *(f"{token}_{i}" for i in range(1, count))])
            )
    return prompt


def cut_tokens(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """Token ids int64 [n, L] of plain texts, cut where the encoder's length ends."""
    texts = [every_vector(tokenizer, caption) for caption in captions]
    longest = tokenizer.model_max_length
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
    ).input_ids


def unknown_words(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Words that the base's vocabulary does not hold whole, so that it was never taught them.

    A small vocabulary holds digits and signs only as its byte alphabet, not as words.
    """
    words = sorted({w for prompt in prompts for w in prompt.split()})
    small = len(tokenizer) < SMALL_VOCABULARY
    return [
        w
        for w in words
        if len(tokenizer(w, add_special_tokens=False).input_ids) != 1
        or (small and len(w) == 1 and not w.isalpha())
    ]


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, without the marks of its start and end."""
    return tokenizer(text, add_special_tokens=False, verbose=False).input_ids


def has_token(tokenizer: Any, word: str) -> bool:
    """Whether `word` is a token, alone or at the end of a word."""
    known = tokenizer.get_vocab()
    return word in known or f"{word}</w>" in known


def add_tokens(
    text_encoder: Any, tokenizer: Any, words: Sequence[str], initializers: Sequence[str | None]
) -> list[int]:
    """Add `words` to the vocabulary; each starts from its initializer's embedding.

    An initializer is a text whose tokens' embeddings are averaged (a public look-alike); None
    starts from the mean over the vocabulary. Returns the new token ids. Raises SfumatoError if a
    token exists already.
    """
    known = tokenizer.get_vocab()
    for word in words:
        if word in known:
            raise SfumatoError(f"the base already has a token {word}: choose another placeholder")
    table = on_host(text_encoder.get_input_embeddings().weight)
    rows = []
    for look_alike in initializers:
        ids = tokens_of(tokenizer, look_alike) if look_alike else []
        rows.append(table[ids].mean(0) if ids else table.mean(0))
    tokenizer.add_tokens(list(words))
    text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(words))
    write_embeddings(text_encoder, ids, torch.stack(rows))
    text_encoder.requires_grad_(False)
    return ids


@torch.no_grad()
def write_embeddings(text_encoder: Any, ids: Sequence[int], rows: torch.Tensor) -> None:
    """Put `rows` [len(ids), D] into the text encoder's token table."""
    table = text_encoder.get_input_embeddings().weight
    place = to_device(torch.tensor(list(ids)), table.device)
    table.index_copy_(0, place, to_device(rows, table.device).to(table.dtype))
