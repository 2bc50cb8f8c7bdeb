"""Tokens of one's own: their names, and their vectors on disk as any diffusers tool reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..compute.device import on_host
from ..errors import SfumatoError
from .interface import TextBase
from .weights import check_settings, check_weights

EMBEDS = "learned_embeds"
MOST_NAMES = 1000  # tried, before a base is said to have them all
LONGEST_NAME = 40
EMBEDS_FILE = f"{EMBEDS}.safetensors"
TOKEN = "token"  # in a file's header, where its tensors are named after text encoders
PARTS = ("clip_l", "clip_g")  # as other tools name them, in the order of a vector


def name_placeholders(base: TextBase, wanted: str, count: int, ours: str) -> tuple[str, ...]:
    """Names of `count` new tokens: `wanted`, numbered where there are several.

    A base that was adapted before may have our own name (`ours`) already: then <artwork2> and so
    on. A name of the user's own stays as it is, and is refused later if the base has it.
    """
    for again in range(1, MOST_NAMES):
        word = wanted if again == 1 else f"{wanted.removesuffix('>')}{again}>"
        found = (
            (word,) if count == 1 else tuple(f"{word.removesuffix('>')}-{i}>" for i in range(count))
        )
        if wanted != ours or not any(map(base.has_token, found)):
            return found
    raise _names_used_up()


def name_token(
    base: TextBase, words: Sequence[str], number: int, taken: Collection[str] = ()
) -> str:
    """A new token named after the first of `words` whose name is free, such as <sheep>.

    If they hold no letter, <class-3> for class 3. Where all are taken, by the base or by
    `taken`, <sheep2> and so on.
    """
    plain = [re.sub("[^a-z0-9]+", "-", word.lower()).strip("-")[:LONGEST_NAME] for word in words]
    names = [word for word in plain if re.search("[a-z]", word)] or [f"class-{number}"]
    for again in range(1, MOST_NAMES):
        for name in names if again == 1 else names[:1]:
            word = f"<{name}>" if again == 1 else f"<{name}{again}>"
            if word not in taken and not base.has_token(word):
                return word
    raise _names_used_up()


def _names_used_up() -> SfumatoError:
    return SfumatoError(
        "the base has all names of class tokens already: name another with --placeholder-token"
    )


def word_vectors(base: TextBase, word: str | None) -> torch.Tensor:
    """The mean token embedding, float32 [D], of a text's tokens, or of the vocabulary (None)."""
    table, ids = base.word_vectors, base.tokens_of(word) if word else []
    return (table[ids] if ids else table).mean(0).float()


def check_placeholders(base: TextBase, placeholders: Sequence[str]) -> None:
    """Refuses a placeholder that the base knows, or that its tokenizer would write differently.

    SfumatoError.
    """
    for word in placeholders:
        if base.has_token(word):
            raise SfumatoError(f"the base already has a token {word}: choose another placeholder")
        if word != word.lower() or any(c.isspace() for c in word) or len(word) < 2:
            raise SfumatoError(
                f"the placeholder {word!r}: small letters without spaces, such as <artwork>"
            )


def save_embeds(
    folder: Path, vectors: Mapping[str, torch.Tensor], parts: Mapping[str, int] | None = None
) -> None:
    """Writes placeholder -> float32 [V, D] as `learned_embeds.safetensors`.

    Several get a numbered file each. `pipe.load_textual_inversion(folder)`, or with the file's
    name, opens each: the format holds one token per file. Of several text encoders each one's share
    stands under its name, as files for SDXL have it, and the token's name in the header.

    Args:
        folder: Made if it is not there.
        vectors: By token.
        parts: `TextBase.token_parts` of the base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, (word, value) in enumerate(vectors.items()):
        name = EMBEDS_FILE if len(vectors) == 1 else f"{EMBEDS}-{i:03d}.safetensors"
        rows = on_host(value, torch.float32)
        shares = rows.split(list(parts.values()), -1) if parts else (rows,)
        save_file(
            {key: share.contiguous() for key, share in zip(parts or (word,), shares)},
            folder / name,
            metadata={"format": "pt"} | ({TOKEN: word} if parts else {}),
        )


def _token_in(path: Path) -> tuple[str, torch.Tensor]:
    """The token in a file of `save_embeds` and its vectors [V, D], those of all encoders joined."""
    check_weights(path)
    with safe_open(path, "pt") as file:
        word = (file.metadata() or {}).get(TOKEN)
        held = {name: file.get_tensor(name) for name in file.keys()}
    if word is None and len(held) == 1:
        return next(iter(held.items()))
    if word is None or set(held) != set(PARTS) or len({len(part) for part in held.values()}) > 1:
        raise SfumatoError(f"{path.name} holds no token that sfumato wrote: fetch it again")
    return word, torch.cat([held[name] for name in PARTS], -1)


def embeds_files(folder: Path) -> list[Path]:
    """The files that `save_embeds` wrote, in order."""
    return sorted(folder.glob(f"{EMBEDS}*.safetensors"))


def read_embeds(folder: Path, placeholders: Sequence[str]) -> torch.Tensor:
    """What `save_embeds` wrote, float32 [C, V, D] in the order of `placeholders`.

    SfumatoError if one is missing.
    """
    found = dict(_token_in(path) for path in embeds_files(folder))
    missing = [word for word in placeholders if word not in found]
    if missing:
        raise SfumatoError(f"no token {missing[0]} in {folder}: it belongs to another run")
    return torch.stack([found[word] for word in placeholders])


def words_in(folder: Path) -> list[str]:
    """Tokens of its own that a model in `folder` brings.

    Those of token files, and what a pipeline's vocabulary had added, special marks aside.
    """
    found = [_token_in(path)[0] for path in embeds_files(folder)]
    for path in sorted(folder.glob("*/tokenizer.json")):
        added = check_settings(path).get("added_tokens") or []
        found += [token["content"] for token in added if not token["special"]]
    return list(dict.fromkeys(found))


def shared_tokens(folder: Path) -> dict[str, str]:
    """Name of a file -> its token, of the token files for two text encoders."""
    found: dict[str, str] = {}
    for path in embeds_files(folder):
        check_weights(path)
        with safe_open(path, "pt") as file:
            if TOKEN in (file.metadata() or {}):
                found[path.name] = file.metadata()[TOKEN]
    return found


def replace_embeds(base: TextBase, vectors: Mapping[str, torch.Tensor]) -> None:
    """Gives tokens of `load_embeds` other vectors float32 [V, D] of the same number."""
    for word, value in vectors.items():
        words = [word, *(f"{word}_{i}" for i in range(1, len(value)))]
        base.write_embeddings(base.token_ids(words), value)


def load_embeds(base: TextBase, folder: Path) -> None:
    """Adds the tokens of `save_embeds` to the base, by diffusers' own loader where it has one.

    SfumatoError if they do not fit it.
    """
    for path in embeds_files(folder):
        word, vectors = _token_in(path)
        try:
            base.learn_token(word, vectors)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise SfumatoError(
                f"{path.name} does not fit this base: {str(error).splitlines()[0][:200]}"
            ) from error
    base.freeze_text()
