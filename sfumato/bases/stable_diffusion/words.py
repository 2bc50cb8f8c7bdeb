"""Reading prompts by CLIP's text encoders, one or several of one vocabulary, and new tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...compute.device import on_host, to_device
from ...compute.stored import unpack
from ..captions import plain
from ..conditioning import Conditioning, concatenate, each
from ..interface import TextBase
from . import prompts
from .encoders import PromptEncoder, VectorEncoder

PIECE = 64  # prompts at a time: 10,000 at once would be gigabytes


class ClipWords(TextBase):
    """What `TextBase` asks, for pipelines with text encoders of CLIP.

    A token's vector is the encoders' own side by side.
    """

    text_encoder: Any
    tokenizer: Any
    # whether tokens were added or changed
    taught: bool = False

    @property
    def readers(self) -> list[tuple[Any, Any]]:
        """Text encoders, each with its tokenizer."""
        return [(self.text_encoder, self.tokenizer)]

    def read(self, ids: Sequence[torch.Tensor], ends: torch.Tensor | None) -> Conditioning:
        """What the denoiser is told by token ids [B, L]; see `encoders.Read`."""
        return self.text_encoder(ids[0]).last_hidden_state

    def condition(self, texts: Sequence[str]) -> Conditioning:
        """Text embeddings of prompts, as the pipeline itself computes them."""
        return self.embed_texts(texts, prompts.tokenize)

    def condition_of_captions(self, captions: Sequence[str]) -> Conditioning:
        """The same of captions, cut where the encoders end."""
        return self.embed_texts([plain(caption) for caption in captions], prompts.cut_tokens)

    @torch.no_grad()
    def embed_texts(
        self, texts: Sequence[str], ids_of: Callable[[Any, Sequence[str]], torch.Tensor]
    ) -> Conditioning:
        """What the denoiser is told by texts, whose token ids `ids_of(tokenizer, texts)` gives."""
        parts = []
        for start in range(0, len(texts), PIECE):
            ids = [
                to_device(ids_of(own, texts[start : start + PIECE]), encoder.device)
                for encoder, own in self.readers
            ]
            parts.append(each(self.read(ids, None), lambda part: to_device(part, self.told_on)))
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def check_prompts(self, texts: Sequence[str]) -> None:
        """Refuses prompts that are longer than an encoder reads."""
        for _, own in self.readers:
            prompts.tokenize(own, texts)

    @property
    def word_vectors(self) -> torch.Tensor:
        """The encoders' token embedding tables side by side, [vocabulary, D]."""
        tables = [on_host(e.get_input_embeddings().weight) for e, _ in self.readers]
        return tables[0] if len(tables) == 1 else torch.cat(tables, 1)

    @property
    def widths(self) -> list[int]:
        """How long each encoder's token vectors are."""
        return [e.get_input_embeddings().weight.shape[1] for e, _ in self.readers]

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Ids of whole tokens."""
        return self.tokenizer.convert_tokens_to_ids(list(words))

    def tokens_of(self, text: str) -> list[int]:
        """Ids of a text's tokens, without start and end."""
        return prompts.tokens_of(self.tokenizer, text)

    def has_token(self, word: str) -> bool:
        """Whether the vocabulary has this word as one token."""
        return prompts.has_token(self.tokenizer, word)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words of the prompts that are no single token."""
        return prompts.unknown_words(self.tokenizer, texts)

    def add_tokens(self, words: Sequence[str], initializers: Sequence[str | None]) -> list[int]:
        """Adds tokens with their initializers' embeddings to the vocabulary; returns their ids."""
        self._open_tables()
        found = [
            prompts.add_tokens(encoder, tokenizer, words, initializers)
            for encoder, tokenizer in self.readers
        ]
        return found[0]

    def learn_token(self, word: str, vectors: torch.Tensor) -> None:
        """Adds a token by diffusers' own loader, to each encoder its share."""
        self._open_tables()
        pipe = self.as_pipeline()
        widths = self.widths
        if vectors.shape[-1] != sum(widths):
            raise ValueError(f"vectors of {vectors.shape[-1]} numbers in place of {sum(widths)}")
        for (encoder, tokenizer), own in zip(self.readers, vectors.split(widths, -1)):
            pipe.load_textual_inversion(
                own.contiguous(), token=word, text_encoder=encoder, tokenizer=tokenizer
            )

    def write_embeddings(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """Overwrites rows of the token embedding tables."""
        self._open_tables()
        for (encoder, _), own in zip(self.readers, rows.split(self.widths, -1)):
            prompts.write_embeddings(encoder, ids, own)

    def _open_tables(self) -> None:
        """Makes the token embedding tables such as may be written into: they differ from files."""
        self.taught = True
        unpack(encoder.get_input_embeddings().weight for encoder, _ in self.readers)

    def token_encoder(self, texts: Sequence[str], ids: Sequence[int | None]) -> PromptEncoder:
        """Prompt embeddings with one trainable vector per class token."""
        return PromptEncoder(self.readers, self.read, texts, ids)

    def vector_encoder(
        self, texts: Sequence[str], placeholders: Sequence[str], vectors: int
    ) -> VectorEncoder:
        """Prompt embeddings with separate vectors for every row."""
        return VectorEncoder(self.readers, self.read, texts, placeholders, vectors)

    def freeze_text(self) -> None:
        """Stops gradients to the text encoders."""
        for encoder, _ in self.readers:
            encoder.requires_grad_(False)
