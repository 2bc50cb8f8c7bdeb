"""Text conditions with trainable vectors in place of tokens: one per class, or one set per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...compute.device import to_device
from ...errors import SfumatoError
from .prompts import tokenize, tokens_of


class PromptEncoder(nn.Module):
    """Prompt embeddings per record, with a trainable vector for each class that has a token.

    `tokens` is an Embedding [tokens, D]; its row is put in place of the class's placeholder in the
    class's prompt. A class without one has its prompt as the base reads it, and reaches no vector.
    The text encoder stays frozen. This is DP-LDM's conditioning embedder (arXiv 2305.15759, section
    3) in the form of textual inversion.
    """

    def __init__(
        self, text_encoder: Any, tokenizer: Any, prompts: Sequence[str], ids: Sequence[int | None]
    ):
        super().__init__()
        self.ids: torch.Tensor
        self.row: torch.Tensor
        self.has: torch.Tensor
        self.position: torch.Tensor
        self.text_encoder = text_encoder
        table = text_encoder.get_input_embeddings().weight
        own = to_device(torch.tensor([i for i in ids if i is not None]), table.device)
        rows = table.detach().index_select(0, own)
        self.tokens = nn.Embedding.from_pretrained(rows, freeze=False)
        written = tokenize(tokenizer, prompts)
        has = torch.tensor([i is not None for i in ids])
        here = written == torch.tensor([-1 if i is None else i for i in ids])[:, None]
        if not (here.sum(1) == has).all():
            raise SfumatoError("every class's prompt must hold its own placeholder exactly once")
        self.register_buffer("ids", written, persistent=False)
        self.register_buffer("has", has, persistent=False)
        self.register_buffer("row", (has.cumsum(0) - 1).clamp(min=0), persistent=False)
        self.register_buffer("position", here.int().argmax(1), persistent=False)
        self.to(table.device)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels int64 [B] -> prompt embeddings [B, L, D]."""
        vectors, position = self.tokens(self.row[labels]), self.position[labels]
        rows = torch.arange(len(labels), device=labels.device)
        has = self.has[labels][:, None]

        def put_in(_module, _inputs, embedded):
            embedded = embedded.clone()
            plain = embedded[rows, position]
            embedded[rows, position] = torch.where(has, vectors.to(embedded.dtype), plain)
            return embedded

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            return self.text_encoder(self.ids[labels]).last_hidden_state
        finally:
            hook.remove()


class VectorEncoder:
    """Prompt embeddings with separate vectors for every row, at its prompt's placeholder.

    Textual inversion. The text encoder is frozen and its vocabulary as it was: the vectors take the
    place of as many padding tokens. Rows do not touch each other. Raises SfumatoError for a prompt
    without exactly one placeholder, or too long with it.
    """

    def __init__(
        self,
        text_encoder: Any,
        tokenizer: Any,
        prompts: Sequence[str],
        placeholders: Sequence[str],
        vectors: int = 1,
    ):
        self.text_encoder, self.vectors = text_encoder, vectors
        table = text_encoder.get_input_embeddings().weight
        self.width = table.shape[1]
        found = [_ids(tokenizer, text, word, vectors) for text, word in zip(prompts, placeholders)]
        self.ids = to_device(torch.tensor([ids for ids, _ in found]), table.device)
        self.first = to_device(torch.tensor([first for _, first in found]), table.device)

    def __call__(self, vectors: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Vectors [B, V, D] and labels int64 [B] -> prompt embeddings [B, L, D]."""
        rows = torch.arange(len(label), device=label.device)[:, None]
        places = self.first[label][:, None] + torch.arange(self.vectors, device=label.device)

        def put_in(_module, _inputs, embedded):
            return embedded.index_put((rows, places), vectors.to(embedded.dtype))

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            return self.text_encoder(self.ids[label]).last_hidden_state
        finally:
            hook.remove()


def _ids(tokenizer: Any, prompt: str, placeholder: str, vectors: int) -> tuple[list[int], int]:
    """Token ids of the whole length with padding for the vectors, and their first position."""
    longest = tokenizer.model_max_length
    parts = prompt.split(placeholder)
    if len(parts) != 2:
        raise SfumatoError(
            f"the prompt {prompt!r} must hold {placeholder} exactly once: that is where the"
            " vectors go"
        )
    before, after = (tokens_of(tokenizer, part) for part in parts)
    ids = [
        tokenizer.bos_token_id,
        *before,
        *[tokenizer.pad_token_id] * vectors,
        *after,
        tokenizer.eos_token_id,
    ]
    if len(ids) > longest:
        raise SfumatoError(
            f"the prompt {prompt!r} is longer than the base's {longest} tokens: shorten it"
        )
    return ids + [tokenizer.pad_token_id] * (longest - len(ids)), 1 + len(before)
