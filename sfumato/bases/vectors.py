"""Token vectors of one's own without a word in the vocabulary: put in at a placeholder, saved for
any diffusers tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..errors import SfumatoError
from .pipeline import Base
from .saving import as_pipeline
from .tokens import write_embeddings
from .weights import check_weights

EMBEDS = "learned_embeds"
EMBEDS_FILE = f"{EMBEDS}.safetensors"


class VectorEncoder:
    """Prompt embeddings in which every row has vectors of its own at its prompt's placeholder
    (textual inversion).

    The text encoder is frozen and its vocabulary as it was: the vectors take the place of as many
    padding tokens. Rows do not touch each other. Raises SfumatoError for a prompt without exactly
    one placeholder, or too long with it.
    """

    def __init__(
        self, base: Base, prompts: Sequence[str], placeholders: Sequence[str], vectors: int = 1
    ):
        self.text_encoder, self.vectors = base.text_encoder, vectors
        self.width = base.text_encoder.get_input_embeddings().weight.shape[1]
        found = [_ids(base, text, word, vectors) for text, word in zip(prompts, placeholders)]
        self.ids = torch.tensor([ids for ids, _ in found])
        self.first = torch.tensor([first for _, first in found])

    def __call__(self, vectors: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Vectors [B, V, D] and labels int64 [B] -> prompt embeddings [B, L, D]."""
        rows = torch.arange(len(label))[:, None]
        places = self.first[label][:, None] + torch.arange(self.vectors)

        def put_in(_module, _inputs, embedded):
            return embedded.index_put((rows, places), vectors.to(embedded.dtype))

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(put_in)
        try:
            return self.text_encoder(self.ids[label]).last_hidden_state
        finally:
            hook.remove()


def _ids(base: Base, prompt: str, placeholder: str, vectors: int) -> tuple[list[int], int]:
    """Token ids of the whole length with padding where the vectors go, and the place of the first
    of them.
    """
    tokenizer, longest = base.tokenizer, base.tokenizer.model_max_length
    parts = prompt.split(placeholder)
    if len(parts) != 2:
        raise SfumatoError(
            f"the prompt {prompt!r} must hold {placeholder} exactly once: that is where the"
            " vectors go"
        )
    before, after = (
        tokenizer(part, add_special_tokens=False, verbose=False).input_ids for part in parts
    )
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


def word_vectors(base: Base, word: str | None) -> torch.Tensor:
    """The mean token embedding of a text's tokens, of the whole vocabulary for None:
    float32 [D].
    """
    table = base.text_encoder.get_input_embeddings().weight.detach()
    ids = base.tokenizer(word, add_special_tokens=False).input_ids if word else []
    return (table[ids] if ids else table).mean(0).float()


def check_placeholders(base: Base, placeholders: Sequence[str]) -> None:
    """SfumatoError for a placeholder that the base knows, or that its tokenizer would write in
    another way.
    """
    known = base.tokenizer.get_vocab()
    for word in placeholders:
        if word in known or f"{word}</w>" in known:
            raise SfumatoError(f"the base already has a token {word}: choose another placeholder")
        if word != word.lower() or any(c.isspace() for c in word) or len(word) < 2:
            raise SfumatoError(
                f"the placeholder {word!r}: small letters without spaces, such as <artwork>"
            )


def save_embeds(folder: Path, vectors: dict[str, torch.Tensor]) -> None:
    """Write placeholder -> float32 [V, D] as `learned_embeds.safetensors`; several get a numbered
    file each.

    `pipe.load_textual_inversion(folder)`, or with the file's name, opens each: the format holds one
    token a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, (word, value) in enumerate(vectors.items()):
        name = EMBEDS_FILE if len(vectors) == 1 else f"{EMBEDS}-{i:03d}.safetensors"
        save_file(
            {word: value.detach().float().contiguous()}, folder / name, metadata={"format": "pt"}
        )


def embeds_files(folder: Path) -> list[Path]:
    """The files that `save_embeds` wrote, in order."""
    return sorted(folder.glob(f"{EMBEDS}*.safetensors"))


def read_embeds(folder: Path, placeholders: Sequence[str]) -> torch.Tensor:
    """What `save_embeds` wrote, float32 [C, V, D] in the order of `placeholders`; SfumatoError if
    one is missing.
    """
    found: dict[str, torch.Tensor] = {}
    for path in embeds_files(folder):
        check_weights(path)
        found |= load_file(path)
    missing = [word for word in placeholders if word not in found]
    if missing:
        raise SfumatoError(f"no token {missing[0]} in {folder}: it belongs to another run")
    return torch.stack([found[word] for word in placeholders])


def replace_embeds(base: Base, vectors: Mapping[str, torch.Tensor]) -> None:
    """Give tokens that the base was taught (`load_embeds`) other vectors float32 [V, D] of the same
    number.
    """
    for word, value in vectors.items():
        words = [word, *(f"{word}_{i}" for i in range(1, len(value)))]
        write_embeddings(base, base.tokenizer.convert_tokens_to_ids(words), value)


def load_embeds(base: Base, folder: Path) -> None:
    """Add the tokens of `save_embeds` to the base, by diffusers' own loader; SfumatoError if they
    do not fit it.
    """
    pipe = as_pipeline(base)
    for path in embeds_files(folder):
        check_weights(path)
        try:
            pipe.load_textual_inversion(str(path), use_safetensors=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise SfumatoError(
                f"{path.name} does not fit this base: {str(error).splitlines()[0][:200]}"
            ) from error
    base.text_encoder.requires_grad_(False)
