"""The private data as the loop sees them.

Memory-mapped latents, labels, and who owns which image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compute.device import on_host
from ..errors import MachineError
from ..privacy.random.keys import RunKey
from .buckets import Buckets
from .disk import reserve
from .objective import READ, Batch
from .texts import Texts, open_texts


@dataclass(frozen=True)
class LatentData:
    """`mean`, `std`: [n, C, h, w] half-precision memory maps.

    `label`: int64 [n], -1 where unusable. `order`, `first`: unit u owns the images
    order[first[u]:first[u + 1]]. `texts`: the captions; None where they train nothing. `buckets`:
    of images of several sizes, whose latents are rows [n, numbers] of which each fills a part.
    """

    mean: np.ndarray
    std: np.ndarray
    label: np.ndarray
    order: np.ndarray
    first: np.ndarray
    texts: Texts | None = None
    buckets: Buckets | None = None

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.first) - 1

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, (C, h, w), or (numbers,) where images have several sizes."""
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
    buckets: Buckets | None = None,
) -> LatentData:
    """Encodes image by image into `folder`; memory does not grow with n.

    MachineError if the disk cannot hold the cache.

    Args:
        folder: Of the cache.
        n: Slots.
        images: Slots -> (uint8 [k, R, R, 3], bool [k]); an image that is False gets the label -1,
            so that it has weight 0. Of images of several sizes it is asked for one at a time.
        encode: A public function of one image at a time.
        label: int64 [n].
        unit: int64 [n].
        order: int64 [n], in which order the slots are read.
        batch: Slots at a time.
        progress: Called with the number of slots done.
        buckets: Of images of several sizes.
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
            buckets,
        )
    except OSError as error:
        raise MachineError(
            f"cannot write the cache of latents: {error.strerror}; free some space or choose"
            " another disk"
        ) from error


def _build(folder, order, images, encode, label, unit, batch, progress, buckets) -> LatentData:
    folder.mkdir(parents=True, exist_ok=True)
    n = len(order)
    shape = None if buckets is None else (buckets.numbers,)
    maps: dict[str, np.memmap] = {}
    label = np.array(label)
    for start in range(0, n, batch):
        chunk = order[start : start + batch]
        # of several sizes each alone: how many of a size come together depends on others
        alone = range(len(chunk)) if buckets is not None else [slice(None)]
        for place in alone:
            slots = np.atleast_1d(chunk[place])
            pictures, good = images(slots)
            label[slots[~good]] = -1
            for name, part in zip(("mean", "std"), encode(pictures)):
                if name not in maps:
                    path, own = folder / f"{name}.npy", shape or part.shape[1:]
                    maps[name] = np.lib.format.open_memmap(path, "w+", np.float16, (n, *own))
                    reserve(path)
                rows = on_host(part).half().numpy()
                if shape is None:
                    maps[name][slots] = rows
                else:
                    maps[name][slots, : rows[0].size] = rows.reshape(len(rows), -1)
        progress(len(chunk))
    for array in maps.values():
        array.flush()
    order = np.argsort(unit, kind="stable") if buckets is None else buckets.order(unit)
    first = np.searchsorted(unit[order], np.arange(int(unit.max()) + 2))
    more = {} if buckets is None else {f"bucket_{n}": v for n, v in vars(buckets).items()}
    np.savez(folder / "units.npz", label=label, order=order, first=first, **more)
    return open_latents(folder)


def open_latents(folder: Path) -> LatentData:
    """The cache that `build_latents` wrote."""
    units = np.load(folder / "units.npz", allow_pickle=False)
    mean, std = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("mean", "std")
    )
    texts, buckets = open_texts(folder), None
    if "bucket_image" in units:
        shapes = tuple((c, h, w) for c, h, w in units["bucket_shapes"].tolist())
        held = (units[f"bucket_{name}"] for name in ("image", "begin", "count"))
        buckets = Buckets(shapes, *held)
    return LatentData(mean, std, units["label"], units["order"], units["first"], texts, buckets)


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
        found, _ = self.drawn(self.units[part])
        if not blanks:
            return found
        return found.each(lambda v: torch.cat([v, v.new_zeros(blanks, *v.shape[1:])]))

    def drawn(self, units: np.ndarray) -> tuple[Batch, np.ndarray]:
        """The batch of some units, and the bucket of each."""
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
        buckets = self.data.buckets
        if buckets is not None:
            place = buckets.together(place, uniform[:, 1 : 1 + k])
        image = self.data.order[place]
        # Times are stratified over the K draws of one unit: their joint law depends on nobody else.
        u = (np.arange(k) + uniform[:, :1]) / k
        time = np.minimum((self.times * u ** (1 / self.time_bias)).astype(np.int64), self.times - 1)
        label = self.data.label[image]
        noise = torch.from_numpy(normal.astype(np.float32)).view(len(units), 2, k, *shape)
        read: dict[str, Any] = {}
        if self.data.texts is not None:
            which = self.key.uniforms_for(*where, [f"{u}/caption" for u in units], k)
            read = dict(zip(READ, self.data.texts.drawn(image, which)))
        batch = Batch(
            mean=torch.from_numpy(self.data.mean[image].astype(np.float32)),
            std=torch.from_numpy(self.data.std[image].astype(np.float32)),
            label=torch.from_numpy(np.maximum(label, 0)),
            latent_noise=noise[:, 0],
            noise=noise[:, 1],
            time=torch.from_numpy(time),
            drop=torch.from_numpy(uniform[:, 1 + k :] < self.caption_dropout),
            weight=torch.from_numpy(((label >= 0) & (owned > 0)).astype(np.float32)),
            **read,
        )
        one = np.zeros(len(units), int) if buckets is None else buckets.image[image[:, 0]]
        return batch, one


@dataclass(frozen=True)
class MixedBatch:
    """The units of one step whose images have several sizes; a slice has a batch for each unit.

    Not one for each size: how many others have that size would then set the shape in which a unit
    is computed, and so the last bits of its gradient.
    """

    of: UnitBatch
    buckets: Buckets

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, part: slice) -> tuple[Batch, ...]:
        found, bucket = self.of.drawn(self.of.units[part])
        return each_alone(found, self.buckets, bucket)


def by_size(batch: UnitBatch) -> UnitBatch | MixedBatch:
    """The batch as the engine takes it: cut by size, too, where images have several."""
    return batch if batch.data.buckets is None else MixedBatch(batch, batch.data.buckets)


def each_alone(batch: Batch, buckets: Buckets, of_unit: np.ndarray) -> tuple[Batch, ...]:
    """A batch for each unit, in the shape of its bucket."""
    return tuple(
        _of_shape(batch[place : place + 1], buckets.shapes[one])
        for place, one in enumerate(of_unit.tolist())
    )


def _of_shape(batch: Batch, shape: tuple[int, int, int]) -> Batch:
    """Rows [B, K, numbers] as latents [B, K, C, h, w], which fill their beginning."""
    size = int(np.prod(shape))

    def latents(rows: torch.Tensor) -> torch.Tensor:
        return rows[..., :size].unflatten(-1, shape)

    return replace(
        batch,
        mean=latents(batch.mean),
        std=latents(batch.std),
        latent_noise=latents(batch.latent_noise),
        noise=latents(batch.noise),
    )
