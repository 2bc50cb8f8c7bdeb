"""The private data as the loop sees them.

Memory-mapped latents, labels, and who owns which image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..compute.device import on_host
from ..errors import MachineError
from ..privacy.random.keys import RunKey
from .objective import NO_TEXT, Batch
from .texts import Texts, open_texts


@dataclass(frozen=True)
class LatentData:
    """`mean`, `std`: [n, C, h, w] half-precision memory maps.

    `label`: int64 [n], -1 where unusable. `order`, `first`: unit u owns the images
    order[first[u]:first[u + 1]]. `texts`: the captions; None where they train nothing.
    """

    mean: np.ndarray
    std: np.ndarray
    label: np.ndarray
    order: np.ndarray
    first: np.ndarray
    texts: Texts | None = None

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.first) - 1

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, (C, h, w)."""
        return self.mean.shape[1:]


def build_latents(
    folder: Path,
    n: int,
    images: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    encode: Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]],
    label: np.ndarray,
    unit: np.ndarray,
    *,
    order: np.ndarray | None = None,
    batch: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> LatentData:
    """Encodes image by image into `folder`; memory does not grow with n.

    MachineError if the disk cannot hold the cache.

    Args:
        folder: Of the cache.
        n: Slots.
        images: Slots -> (uint8 [k, R, R, 3], bool [k]); an image that is False gets the label -1,
            so
            that it has weight 0.
        encode: A public function of one image at a time.
        label: int64 [n].
        unit: int64 [n].
        order: int64 [n], in which order the slots are read.
        batch: Slots at a time.
        progress: Called with the number of slots done.
    """
    try:
        return _build(
            folder,
            np.arange(n) if order is None else order,
            images,
            encode,
            label,
            unit,
            batch,
            progress,
        )
    except OSError as error:
        raise MachineError(
            f"cannot write the cache of latents: {error.strerror}; free some space or choose"
            " another disk"
        ) from error


def _build(folder, order, images, encode, label, unit, batch, progress) -> LatentData:
    folder.mkdir(parents=True, exist_ok=True)
    n = len(order)
    maps: dict[str, np.memmap] = {}
    label = np.array(label)
    for start in range(0, n, batch):
        slots = order[start : start + batch]
        pictures, good = images(slots)
        label[slots[~good]] = -1
        for name, part in zip(("mean", "std"), encode(pictures)):
            if name not in maps:
                path = folder / f"{name}.npy"
                maps[name] = np.lib.format.open_memmap(path, "w+", np.float16, (n, *part.shape[1:]))
                _reserve(path)
            maps[name][slots] = on_host(part).half().numpy()
        progress(len(slots))
    for array in maps.values():
        array.flush()
    order = np.argsort(unit, kind="stable")
    first = np.searchsorted(unit[order], np.arange(int(unit.max()) + 2))
    np.savez(folder / "units.npz", label=label, order=order, first=first)
    return open_latents(folder)


def _reserve(path: Path) -> None:
    """Gives a sparse file its blocks now.

    On a full disk a memory map would otherwise end the process later, without a message.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size)


def open_latents(folder: Path) -> LatentData:
    """The cache that `build_latents` wrote."""
    units = np.load(folder / "units.npz", allow_pickle=False)
    mean, std = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("mean", "std")
    )
    texts = open_texts(folder)
    return LatentData(mean, std, units["label"], units["order"], units["first"], texts)


@dataclass(frozen=True)
class UnitBatch:
    """The units of one step; a slice draws their randomness and reads their latents.

    Every draw of a unit is keyed by (run key, step, attempt, unit): never by its place in the
    batch, nor by who else is in it. With several images per unit each of the K draws picks one of
    them, so K is the fixed public bound on a unit's images per step and they are averaged before
    the clip (Charles et al., 2407.07737); it reads one of that image's captions. `blanks` more of
    weight 0 follow, whose gradient is zero: they belong to nobody.
    """

    data: LatentData
    units: np.ndarray
    key: RunKey
    step: int
    attempt: int
    draws: int
    time_bias: float
    caption_dropout: float
    times: int
    blanks: int = 0

    def __len__(self) -> int:
        return len(self.units) + self.blanks

    def __getitem__(self, part: slice) -> Batch:
        blanks = len(range(len(self))[part]) - len(self.units[part])
        found = self._of_units(self.units[part])
        if not blanks:
            return found
        return found.each(lambda v: torch.cat([v, v.new_zeros(blanks, *v.shape[1:])]))

    def _of_units(self, units: np.ndarray) -> Batch:
        k = self.draws
        shape = self.data.latent_shape
        size = int(np.prod(shape))
        where = ("unit", self.step, self.attempt)
        uniform = self.key.uniforms_for(*where, [f"{u}/choice" for u in units], 1 + 2 * k)
        normal = self.key.normals_for(*where, [f"{u}/normal" for u in units], 2 * k * size)

        owned = (self.data.first[units + 1] - self.data.first[units])[:, None]
        pick = (uniform[:, 1 : 1 + k] * owned).astype(np.int64)
        # A unit without images has weight 0, so it does not matter that this is another's image.
        place = np.minimum(self.data.first[units][:, None] + pick, len(self.data.order) - 1)
        image = self.data.order[place]
        # Times are stratified over the K draws of one unit: their joint law depends on nobody else.
        u = (np.arange(k) + uniform[:, :1]) / k
        time = np.minimum((self.times * u ** (1 / self.time_bias)).astype(np.int64), self.times - 1)
        label = self.data.label[image]
        noise = torch.from_numpy(normal.astype(np.float32)).view(len(units), 2, k, *shape)
        text = NO_TEXT
        if self.data.texts is not None:
            which = self.key.uniforms_for(*where, [f"{u}/caption" for u in units], k)
            text = self.data.texts.drawn(image, which)
        return Batch(
            mean=torch.from_numpy(self.data.mean[image].astype(np.float32)),
            std=torch.from_numpy(self.data.std[image].astype(np.float32)),
            label=torch.from_numpy(np.maximum(label, 0)),
            latent_noise=noise[:, 0],
            noise=noise[:, 1],
            time=torch.from_numpy(time),
            drop=torch.from_numpy(uniform[:, 1 + k :] < self.caption_dropout),
            weight=torch.from_numpy(((label >= 0) & (owned > 0)).astype(np.float32)),
            text=text,
        )
