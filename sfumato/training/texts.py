"""Captions of the private images as what the base is told of them, and which one a draw reads.

A caption is read once, alone, by the base's text encoders; what they make of it is kept on disk
beside the latents. It is as private as the caption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..bases.conditioning import Conditioning, tensors
from ..compute.device import on_host
from ..errors import MachineError
from .disk import reserve

INDEX = "captions.npz"
MOST = 32  # captions of one image that are kept: the first, a rule for each image alone

# Captions -> what the base is told by them (`Told.condition_of_captions`).
Tell = Callable[[Sequence[str]], Conditioning]


@dataclass(frozen=True)
class Texts:
    """Captions by image.

    Attributes:
        told: The tensors of a conditioning by name, each [m + 1, ...], memory maps: the captions of
            the first image, then of the second..., and a last row of zeros for none.
        first: int64 [n + 1]: image i has the captions first[i] to first[i + 1] - 1, maybe none.
    """

    told: Mapping[str, torch.Tensor]
    first: np.ndarray

    def drawn(
        self, image: np.ndarray, uniform: np.ndarray
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What one caption of each image tells, [..., *shape] by name, and whether it has one.

        Args:
            image: int64 [...].
            uniform: In [0, 1), of the same shape: which of an image's captions it is.
        """
        start, count = self.first[image], self.first[image + 1] - self.first[image]
        has = count > 0
        place = torch.from_numpy(np.where(has, start + (uniform * count).astype(np.int64), -1))
        return {name: rows[place] for name, rows in self.told.items()}, torch.from_numpy(has)


def captions_of(cell: str) -> list[str]:
    """The captions of one image: a cell's lines that are not empty, `MOST` at most."""
    return [line.strip() for line in cell.splitlines() if line.strip()][:MOST]


def read_alone(tell: Tell, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    """What captions tell, each read alone, and a row of zeros behind them: for few of them."""
    rows = [tensors(tell([caption])) for caption in captions]
    held = {name: torch.cat([on_host(row[name]) for row in rows]) for name in rows[0]}
    return {name: torch.cat([part, torch.zeros_like(part[:1])]) for name, part in held.items()}


def write_texts(
    folder: Path,
    cells: Sequence[str],
    tell: Tell,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Reads all captions, one at a time, into the cache.

    Not several together: how many others there are would then set the shape in which a caption is
    computed, and so its last bits.

    MachineError if the disk cannot hold it.

    Args:
        folder: Of the cache.
        cells: What is written beside each image (`captions_of`).
        tell: A public function of one caption at a time.
        progress: Called with the number of images done.
    """
    try:
        _write(folder, cells, tell, progress)
    except OSError as error:
        raise MachineError(
            f"cannot write the cache of captions: {error.strerror}; free some space or choose"
            " another disk"
        ) from error


def _write(folder: Path, cells: Sequence[str], tell: Tell, progress: Callable[[int], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    counts = [len(captions_of(cell)) for cell in cells]
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    shapes = tensors(tell(["a"]))
    maps = []
    for number, part in enumerate(shapes.values()):
        row, path = _as_numbers(part), _file(folder, number)
        shape = (int(first[-1]) + 1, *row.shape[1:])
        maps.append(np.lib.format.open_memmap(path, "w+", row.dtype, shape))
        reserve(path)
    for image, cell in enumerate(cells):
        for place, caption in enumerate(captions_of(cell), int(first[image])):
            for rows, part in zip(maps, tensors(tell([caption])).values(), strict=True):
                rows[place] = _as_numbers(part)[0]
        progress(1)
    for rows in maps:
        rows.flush()
    formats = [str(part.dtype).removeprefix("torch.") for part in shapes.values()]
    np.savez(folder / INDEX, first=first, names=list(shapes), formats=formats)


def _file(folder: Path, number: int) -> Path:
    return folder / f"caption{number}.npy"


def _as_numbers(part: torch.Tensor) -> np.ndarray:
    """A tensor for numpy, which has no bfloat16: as whole numbers of the same bits."""
    part = on_host(part).contiguous()
    return (part.view(torch.int16) if part.dtype == torch.bfloat16 else part).numpy()


def open_texts(folder: Path) -> Texts | None:
    """What `write_texts` wrote; None for a run that trains no captions."""
    if not (folder / INDEX).exists():
        return None
    with np.load(folder / INDEX, allow_pickle=False) as index:
        first, names, formats = index["first"], index["names"].tolist(), index["formats"].tolist()
    told = {}
    for number, (name, dtype) in enumerate(zip(names, formats)):
        # torch warns of maps that are read only; what is written into a copy reaches no file
        rows = np.load(_file(folder, number), mmap_mode="c", allow_pickle=False)
        told[name] = torch.from_numpy(rows).view(getattr(torch, dtype))
    return Texts(told, first)
