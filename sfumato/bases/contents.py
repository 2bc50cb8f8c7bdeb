"""Weights known by their contents.

A copy under another name, in another file, shard or precision is still recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..compute.device import on_host
from ..errors import ModelError
from .files import weight_files

# Numbers of one block: one that is edited hides its own block alone. Large tensors in larger
# blocks, by their size, which a copy keeps.
BLOCK, LARGE_BLOCK, LARGE = 256, 4096, 1 << 16
# numbers of a block, different ones among them; of fewer two models can hold the same by chance
FEWEST, DISTINCT = 16, 12
GLANCE = 64  # numbers of a block in which different ones are looked for before all are


def content_of(tensor: torch.Tensor) -> bytes | None:
    """SHA-256 of a tensor's numbers in half precision, as in rows of earlier versions.

    None for a tensor with too little information.
    """
    flat = on_host(tensor, torch.float32).flatten()
    if (
        flat.numel() < FEWEST
        or not torch.is_floating_point(tensor)
        or bool((flat == flat[0]).all())
    ):
        return None
    return hashlib.sha256(flat.to(torch.float16).numpy().tobytes()).digest()


def blocks_of(tensor: torch.Tensor) -> Iterator[bytes]:
    """SHA-256 of each block of a tensor's numbers in half precision, in order.

    Blocks with too little information are left out.
    """
    if not torch.is_floating_point(tensor) or tensor.numel() < FEWEST:
        return
    # Plus zero: it makes minus zeros zeros.
    flat = (
        (on_host(tensor, torch.float32).flatten().to(torch.float16) + 0.0).numpy().view(np.uint16)
    )
    size = LARGE_BLOCK if len(flat) >= LARGE else min(BLOCK, len(flat))
    whole, tail = (
        flat[: len(flat) // size * size].reshape(-1, size),
        flat[len(flat) // size * size :],
    )
    clear = _different(whole[:, :: max(1, size // GLANCE)])
    for row, says in zip(whole, clear):
        if says >= DISTINCT or len(np.unique(row)) >= DISTINCT:
            yield hashlib.sha256(row.data).digest()
    if len(tail) >= FEWEST and len(np.unique(tail)) >= DISTINCT:
        yield hashlib.sha256(tail.data).digest()


def _different(rows: np.ndarray) -> np.ndarray:
    """How many different numbers each row holds."""
    ordered = np.sort(rows, axis=1)
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)


def parts(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors, with token tables split into rows: a token may be put into another table."""
    for name, tensor in tensors:
        for part in tensor if _holds_tokens(name, tensor) else (tensor,):
            yield name, part


def contents(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[bytes, str]:
    """Content -> name, for the blocks of each part.

    And, as in rows of earlier versions, for each tensor and token.
    """
    found: dict[bytes, str] = {}
    for name, tensor in tensors:
        found.update(
            (content, name) for _, part in parts([(name, tensor)]) for content in blocks_of(part)
        )
        for part in (tensor, *(tensor if _holds_tokens(name, tensor) else ())):
            if (content := content_of(part)) is not None:
                found.setdefault(content, name)
    return found


def contents_of_files(place: Path) -> dict[bytes, str]:
    """The same of a safetensors file, or of all such files in a folder.

    ModelError if one does not read.
    """
    return contents(_read(place))


def blocks_of_files(place: Path) -> frozenset[bytes]:
    """The contents of all blocks of such files."""
    return frozenset(content for _, part in parts(_read(place)) for content in blocks_of(part))


def made_contents(
    tensors: Iterable[tuple[str, torch.Tensor]], before: Collection[bytes] = ()
) -> list[list[bytes]]:
    """What a run made: for each tensor and token, contents of blocks that are not in `before`."""
    found = (
        [c for c in dict.fromkeys(blocks_of(part)) if c not in before] for _, part in parts(tensors)
    )
    return [made for made in found if made]


def made_contents_of_files(place: Path, before: Collection[bytes] = ()) -> list[list[bytes]]:
    """The same of a safetensors file, or of all such files in a folder."""
    return made_contents(_read(place), before)


def _holds_tokens(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is a table of tokens.

    A vocabulary's table, class tokens in training, or a file of token vectors, whose names are
    words and not those of modules.
    """
    table = name.endswith(("token_embedding.weight", "tokens.weight"))
    return tensor.ndim == 2 and (table or not name.endswith((".weight", ".bias")))


def _read(place: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in weight_files(place):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    yield name, file.get_tensor(name)
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(
                f"{path.name} is not a whole safetensors file: fetch or save it again"
            ) from error
