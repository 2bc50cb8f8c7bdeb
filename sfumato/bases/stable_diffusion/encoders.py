"""Text conditions with trainable vectors in place of tokens: one per class, or one set per row.

For one text encoder or several that share a vocabulary: a vector is then the encoders' own side by
side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ...compute.device import to_device
from ...errors import SfumatoError
from ..conditioning import Conditioning
from .prompts import tokenize, tokens_of

# Text encoders, each with its tokenizer.
Readers = Sequence[tuple[Any, Any]]
# (token ids [B, L] for each encoder; where the text ends and where its last new token stands,
# int64 [2, B], or None: the ids say it) -> what the denoiser is told
Read = Callable[[Sequence[torch.Tensor], torch.Tensor | None], Conditioning]
# (embedded tokens [B, L, D], the vectors of this encoder [B, ..., D]) -> embedded tokens
Put = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PromptEncoder(nn.Module):
    """Prompt embeddings per record, with a trainable vector for each class that has a token.

    `tokens` is an Embedding [tokens, D]; its row is put in place of the class's placeholder in the
    class's prompt. A class without one has its prompt as the base reads it, and reaches no vector.
    The text encoders stay frozen. This is DP-LDM's conditioning embedder (arXiv 2305.15759, section
    3) in the form of textual inversion.
    """

    def __init__(
        self, readers: Readers, read: Read, prompts: Sequence[str], ids: Sequence[int | None]
    ):
        super().__init__()
        self.row: torch.Tensor
        self.has: torch.Tensor
        self.position: torch.Tensor
        self.encoders, self.read = tuple(encoder for encoder, _ in readers), read
        where = self.encoders[0].get_input_embeddings().weight.device
        own = to_device(torch.tensor([i for i in ids if i is not None]), where)
        rows = [
            encoder.get_input_embeddings().weight.detach().index_select(0, own)
            for encoder in self.encoders
        ]
        self.tokens = nn.Embedding.from_pretrained(torch.cat(rows, 1), freeze=False)
        has = torch.tensor([i is not None for i in ids])
        wanted = torch.tensor([-1 if i is None else i for i in ids])[:, None]
        for number, (_, tokenizer) in enumerate(readers):
            written = tokenize(tokenizer, prompts)
            here = written == wanted
            if not (here.sum(1) == has).all():
                raise SfumatoError(
                    "every class's prompt must hold its own placeholder exactly once"
                )
            self.register_buffer(f"ids{number}", written, persistent=False)
        self.register_buffer("has", has, persistent=False)
        self.register_buffer("row", (has.cumsum(0) - 1).clamp(min=0), persistent=False)
        self.register_buffer("position", here.int().argmax(1), persistent=False)
        self.to(where)

    def forward(self, labels: torch.Tensor) -> Conditioning:
        """Labels int64 [B] -> prompt embeddings [B, L, D], or what the family reads."""
        vectors, position = self.tokens(self.row[labels]), self.position[labels]
        rows = torch.arange(len(labels), device=labels.device)
        has = self.has[labels][:, None]

        def put(embedded: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            embedded = embedded.clone()
            plain = embedded[rows, position]
            embedded[rows, position] = torch.where(has, own.to(embedded.dtype), plain)
            return embedded

        ids = [self.get_buffer(f"ids{i}")[labels] for i in range(len(self.encoders))]
        with _replaced(self.encoders, vectors, put):
            return self.read(ids, None)


class VectorEncoder:
    """Prompt embeddings with separate vectors for every row, at its prompt's placeholder.

    Textual inversion. The text encoders are frozen and their vocabulary as it was: the vectors take
    the place of as many padding tokens. Rows do not touch each other. Raises SfumatoError for a
    prompt without exactly one placeholder, or too long with it.
    """

    def __init__(
        self,
        readers: Readers,
        read: Read,
        prompts: Sequence[str],
        placeholders: Sequence[str],
        vectors: int = 1,
    ):
        self.encoders, self.read, self.vectors = tuple(e for e, _ in readers), read, vectors
        where = self.encoders[0].get_input_embeddings().weight.device
        found = [
            [_ids(tokenizer, text, word, vectors) for text, word in zip(prompts, placeholders)]
            for _, tokenizer in readers
        ]
        self.ids = [to_device(torch.tensor([ids for ids, *_ in own]), where) for own in found]
        places = torch.tensor([[first, end] for _, first, end in found[0]])
        self.first, self.end = to_device(places, where).unbind(1)

    def __call__(self, vectors: torch.Tensor, label: torch.Tensor) -> Conditioning:
        """Vectors [B, V, D] and labels int64 [B] -> prompt embeddings [B, L, D], or the like."""
        rows = torch.arange(len(label), device=label.device)[:, None]
        places = self.first[label][:, None] + torch.arange(self.vectors, device=label.device)

        def put(embedded: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            return embedded.index_put((rows, places), own.to(embedded.dtype))

        # A text encoder that takes the largest id for the text's end finds a new token there.
        last = torch.stack([self.end[label], places[:, -1]])
        with _replaced(self.encoders, vectors, put):
            return self.read([ids[label] for ids in self.ids], last)


@contextmanager
def _replaced(encoders: Sequence[Any], vectors: torch.Tensor, put: Put) -> Iterator[None]:
    """While it lasts each encoder's embedded tokens are `put(embedded, its share of vectors)`."""
    tables = [encoder.get_input_embeddings() for encoder in encoders]
    shares = vectors.split([table.weight.shape[1] for table in tables], dim=-1)
    with ExitStack() as hooks:
        for table, share in zip(tables, shares):
            hook = table.register_forward_hook(lambda _m, _i, out, share=share: put(out, share))
            hooks.callback(hook.remove)
        yield


def _ids(tokenizer: Any, prompt: str, placeholder: str, vectors: int) -> tuple[list[int], int, int]:
    """Token ids of the whole length with padding for the vectors, and their first position.

    And the position of the text's end.
    """
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
    end = len(ids) - 1
    return ids + [tokenizer.pad_token_id] * (longest - len(ids)), 1 + len(before), end
