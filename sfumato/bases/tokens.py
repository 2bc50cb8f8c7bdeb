"""Placeholder tokens: words of one's own, for classes that the base has no word for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import SfumatoError
from .latents import tokenize
from .pipeline import Base


def name_placeholders(base: Base, wanted: str | None, count: int, ours: str) -> tuple[str, ...]:
    """Names of `count` new tokens: <class-0>, <class-1>, ..., or `wanted`, numbered where there are
    several.

    A base that was adapted before may have our own names (these, or `ours`) already: then
    <class2-0>, <artwork2> and so on. A name of the user's own stays as it is, and is refused later
    if the base has it.
    """
    known = base.tokenizer.get_vocab()
    first = wanted or "<class>"
    for again in range(1, 1000):
        word = first if again == 1 else f"{first.removesuffix('>')}{again}>"
        found = (
            (word,)
            if wanted and count == 1
            else tuple(f"{word.removesuffix('>')}-{i}>" for i in range(count))
        )
        if wanted not in (None, ours) or not any(w in known or f"{w}</w>" in known for w in found):
            return found
    raise SfumatoError(
        "the base has all names of class tokens already: name another with --placeholder-token"
    )


def add_placeholders(
    base: Base, placeholders: Sequence[str], initializers: Sequence[str | None]
) -> list[int]:
    """Add `placeholders` to the base's vocabulary; each starts from its initializer's embedding.

    An initializer is a text whose tokens' embeddings are averaged (a public look-alike); None
    starts from the mean over the vocabulary. Returns the new token ids. Raises SfumatoError if a
    placeholder exists already.
    """
    known = base.tokenizer.get_vocab()
    for word in placeholders:
        if word in known:
            raise SfumatoError(f"the base already has a token {word}: choose another placeholder")
    table = base.text_encoder.get_input_embeddings().weight.detach()
    rows = []
    for word in initializers:
        ids = base.tokenizer(word, add_special_tokens=False).input_ids if word else []
        rows.append(table[ids].mean(0) if ids else table.mean(0))
    base.tokenizer.add_tokens(list(placeholders))
    base.text_encoder.resize_token_embeddings(len(base.tokenizer), mean_resizing=False)
    ids = base.tokenizer.convert_tokens_to_ids(list(placeholders))
    write_embeddings(base, ids, torch.stack(rows))
    base.text_encoder.requires_grad_(False)
    return ids


@torch.no_grad()
def write_embeddings(base: Base, ids: Sequence[int], rows: torch.Tensor) -> None:
    """Put `rows` [len(ids), D] into the text encoder's token table."""
    base.text_encoder.get_input_embeddings().weight[list(ids)] = rows.float()


class PromptEncoder(nn.Module):
    """Prompt embeddings per record, with gradients reaching one trainable vector per class.

    `tokens` is an Embedding [classes, D]; its row is put in place of the class's placeholder in the
    class's prompt. The text encoder stays frozen. This is DP-LDM's conditioning embedder (arXiv
    2305.15759, section 3) in the form of textual inversion.
    """

    def __init__(self, base: Base, prompts: Sequence[str], placeholder_ids: Sequence[int]):
        super().__init__()
        self.text_encoder = base.text_encoder
        table = base.text_encoder.get_input_embeddings().weight
        self.tokens = nn.Embedding.from_pretrained(
            table[list(placeholder_ids)].clone(), freeze=False
        )
        ids = tokenize(base, prompts)
        here = ids == torch.tensor(list(placeholder_ids))[:, None]
        if not (here.sum(1) == 1).all():
            raise SfumatoError("every class's prompt must hold its own placeholder exactly once")
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("position", here.int().argmax(1), persistent=False)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels int64 [B] -> prompt embeddings [B, L, D]."""
        vectors, position = self.tokens(labels), self.position[labels]
        rows = torch.arange(len(labels))

        def put_in(_module, _inputs, embedded):
            embedded = embedded.clone()
            embedded[rows, position] = vectors.to(embedded.dtype)
            return embedded

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            return self.text_encoder(self.ids[labels]).last_hidden_state
        finally:
            hook.remove()
