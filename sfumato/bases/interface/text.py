"""`TextBase`: what a base is asked beside, for methods that teach it tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from ...errors import ModelError
from ..conditioning import Conditioning
from .base import Base


class TextBase(Base):
    """A base that reads prompts, and can learn new tokens."""

    prompted: ClassVar[bool] = True

    @property
    @abstractmethod
    def word_vectors(self) -> torch.Tensor:
        """One row for every token of the vocabulary, [V, D], without a gradient, in host memory.

        What is made of words, such as where a token starts, is then the same on every device.
        """

    @property
    def token_parts(self) -> Mapping[str, int]:
        """Name of a text encoder in token files -> its width, in the order of `word_vectors`.

        Empty for one encoder, whose file holds the token's own name.
        """
        return {}

    @abstractmethod
    def learn_token(self, word: str, vectors: torch.Tensor) -> None:
        """Add a token with vectors [V, D] as the family's pipeline reads a token file.

        Raises:
            ValueError: It does not fit.
        """

    @abstractmethod
    def token_ids(self, words: Sequence[str]) -> list[int]:
        """Rows of `word_vectors` for words that are tokens of their own."""

    @abstractmethod
    def tokens_of(self, text: str) -> list[int]:
        """Rows of `word_vectors` for the tokens of a text."""

    @abstractmethod
    def has_token(self, word: str) -> bool:
        """Whether the vocabulary holds `word` as a token."""

    @abstractmethod
    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """Words that are no single token of the vocabulary, so that the base does not know them."""

    @abstractmethod
    def add_tokens(self, words: Sequence[str], initializers: Sequence[str | None]) -> list[int]:
        """Add `words` to the vocabulary; each starts from its initializer's embedding.

        Args:
            words: New tokens.
            initializers: For each a text whose tokens' embeddings are averaged (a public
                look-alike); None starts from the mean over the vocabulary.

        Returns:
            The new token ids.

        Raises:
            SfumatoError: If a token exists already.
        """

    @abstractmethod
    def write_embeddings(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """Put `rows` [len(ids), D] into the table of `word_vectors`."""

    @abstractmethod
    def token_encoder(self, prompts: Sequence[str], ids: Sequence[int | None]) -> nn.Module:
        """A module from labels int64 [B] to conditions [B, ...], with one vector per token.

        Its `tokens`, an Embedding [tokens, D], holds the vectors in the order of the classes; each
        replaces the token `ids[class]` in `prompts[class]`.

        Args:
            prompts: One per class.
            ids: The placeholder's token id for each class; None where the prompt is read as it is.

        Returns:
            The module.
        """

    @abstractmethod
    def vector_encoder(
        self, prompts: Sequence[str], placeholders: Sequence[str], vectors: int
    ) -> Callable[[torch.Tensor, torch.Tensor], Conditioning]:
        """A function from vectors [B, V, D] and labels int64 [B] to conditions [B, ...].

        Every row has its own vectors at its prompt's placeholder.
        """

    @abstractmethod
    def freeze_text(self) -> None:
        """Freezes everything that reads prompts."""


def text_base(base: Base) -> TextBase:
    """The base, if it reads prompts and can be taught tokens.

    Args:
        base: Any base.

    Returns:
        `base` itself.

    Raises:
        ModelError: It cannot.
    """
    if not isinstance(base, TextBase):
        why = (
            "has no tokens that can be taught: use a method without them, and no class tokens"
            if base.prompted
            else "reads no prompts, so it cannot be taught tokens: take one that does"
        )
        raise ModelError(f"a {base.family} base {why}")
    return base
