"""Weights known by what they hold: a copy under another name, in another file, shard or precision is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelError

FEWEST = 16  # numbers; of fewer, or of equal ones, two models can hold the same by chance
LARGEST = 16  # tensors of one file that are noted: a copy of a model holds them all
MOST_ROWS = 256  # token vectors of one table that are noted one by one


def content_of(tensor: torch.Tensor) -> bytes | None:
    """SHA-256 of a tensor's numbers in half precision, in order; None for one that says too little (`FEWEST`)."""
    flat = tensor.detach().to("cpu", torch.float32).flatten()
    if flat.numel() < FEWEST or not torch.is_floating_point(tensor) or bool((flat == flat[0]).all()):
        return None
    return hashlib.sha256(flat.to(torch.float16).numpy().tobytes()).digest()


def contents(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[bytes, str]:
    """Content -> name of each tensor; the rows of token tables count one by one, for a token may be put into another table."""
    found: dict[bytes, str] = {}
    for name, tensor in tensors:
        rows = tensor if _holds_tokens(name, tensor) else ()
        for part in (tensor, *rows):
            if (content := content_of(part)) is not None:
                found.setdefault(content, name)
    return found


def contents_of_files(place: Path) -> dict[bytes, str]:
    """The same of a safetensors file, or of all such files in a folder; ModelError if one does not read."""
    return contents(_read(place))


def made_contents(
    tensors: Iterable[tuple[str, torch.Tensor]], before: Mapping[bytes, str] | None = None
) -> list[bytes]:
    """Contents that name what a run made: its `LARGEST` tensors that are not in `before`, and the first rows of token tables."""
    sized = sorted(tensors, key=lambda item: (-item[1].numel(), item[0]))
    found: dict[bytes, None] = {}
    for _, tensor in sized:
        if len(found) < LARGEST and (content := content_of(tensor)) is not None and content not in (before or {}):
            found[content] = None
    tables = [tensor for name, tensor in sized if _holds_tokens(name, tensor)]
    rows = {c: None for table in tables for row in table if (c := content_of(row)) and c not in (before or {})}
    return [*found, *list(rows)[:MOST_ROWS]]


def made_contents_of_files(place: Path, before: Mapping[bytes, str] | None = None) -> list[bytes]:
    """The same of a safetensors file, or of all such files in a folder."""
    return made_contents(_read(place), before)


def _holds_tokens(name: str, tensor: torch.Tensor) -> bool:
    """A vocabulary's table, class tokens in training, or a file of token vectors, whose names are words."""
    return tensor.ndim == 2 and (name.endswith(("token_embedding.weight", "tokens.weight")) or "." not in name)


def _read(place: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in [place] if place.is_file() else sorted(place.rglob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    yield name, file.get_tensor(name)
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path.name} is not a whole safetensors file: fetch or save it again") from error
