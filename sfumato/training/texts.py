"""Captions of the private images as token ids on disk, and which of them a draw reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import MachineError

TOKENS, OWNERS = "tokens.npy", "captions.npy"
MOST = 32  # captions of one image that are kept: the first, a rule for each image alone
TOGETHER = 1024  # captions


@dataclass(frozen=True)
class Texts:
    """Captions by image.

    Attributes:
        tokens: int32 [m, L], a memory map: the captions of the first image, then of the second...
        first: int64 [n + 1]: image i has the captions first[i] to first[i + 1] - 1, maybe none.
    """

    tokens: np.ndarray
    first: np.ndarray

    def drawn(self, image: np.ndarray, uniform: np.ndarray) -> torch.Tensor:
        """One caption of each image, int64 [..., L]; -1 where it has none.

        Args:
            image: int64 [...].
            uniform: In [0, 1), of the same shape: which of an image's captions it is.
        """
        start, count = self.first[image], self.first[image + 1] - self.first[image]
        found = np.full((*image.shape, self.tokens.shape[1]), -1, np.int64)
        has = count > 0
        found[has] = self.tokens[(start + (uniform * count).astype(np.int64))[has]]
        return torch.from_numpy(found)


def captions_of(cell: str) -> list[str]:
    """The captions of one image: a cell's lines that are not empty, `MOST` at most."""
    return [line.strip() for line in cell.splitlines() if line.strip()][:MOST]


def write_texts(
    folder: Path, cells: Sequence[str], tokens_of: Callable[[Sequence[str]], np.ndarray]
) -> None:
    """Writes the token ids of all captions into the cache.

    MachineError if the disk cannot hold it.

    Args:
        folder: Of the cache.
        cells: What is written beside each image (`captions_of`).
        tokens_of: A public function of one caption at a time, `TextBase.caption_tokens`.
    """
    try:
        _write(folder, cells, tokens_of)
    except OSError as error:
        raise MachineError(
            f"cannot write the cache of captions: {error.strerror}; free some space or choose"
            " another disk"
        ) from error


def _write(folder: Path, cells: Sequence[str], tokens_of: Callable[..., np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    counts = [len(captions_of(cell)) for cell in cells]
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    width = tokens_of(["a"]).shape[1]
    # one row more, so that there is a file to map where no image has a caption
    made = np.lib.format.open_memmap(folder / TOKENS, "w+", np.int32, (int(first[-1]) + 1, width))
    for start in range(0, len(cells), TOGETHER):
        texts = [text for cell in cells[start : start + TOGETHER] for text in captions_of(cell)]
        if texts:
            made[first[start] : first[start] + len(texts)] = tokens_of(texts)
    made.flush()
    np.save(folder / OWNERS, first)


def open_texts(folder: Path) -> Texts | None:
    """What `write_texts` wrote; None for a run that trains no captions."""
    if not (folder / OWNERS).exists():
        return None
    tokens = np.load(folder / TOKENS, mmap_mode="r", allow_pickle=False)
    return Texts(tokens, np.load(folder / OWNERS, allow_pickle=False))
