"""Public feature spaces, in which a private image finds its nearest candidates.

A feature is a public function of one picture. Of a private image it is computed from its cached
latent, once, and kept in the run folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...bases import Base
from ...compute.device import on_host, to_device
from ...errors import MachineError, SfumatoError
from ...evaluation.features import load_torchscript_extractor

BUNDLED = ("latents", "pixels")
FOLDER = "features"  # PRIVATE, in the run folder while it runs
ROWS = 512  # images at a time
SIDE = 16  # of the grid on which "pixels" compares pictures


@dataclass(frozen=True)
class Space:
    """A named feature space.

    Attributes:
        name: As the plan and the certificate state it; of a file with its hash.
        of_latents: Latents float32 [B, C, h, w] -> features float32 [B, d]; a row that is not
            finite has no features, so it casts no vote.
        of_pictures: Of a file: pictures uint8 [B, R, R, 3] -> features.
    """

    name: str
    of_latents: Callable[[torch.Tensor], np.ndarray]
    of_pictures: Callable[[np.ndarray], np.ndarray] | None = None


def space_of(base: Base, name: str) -> Space:
    """The feature space of that name: bundled, or a TorchScript file of features.

    Raises:
        SfumatoError: There is none.
    """
    if name == "latents":
        return Space(name, lambda latents: on_host(latents, torch.float32).flatten(1).numpy())
    if name == "pixels":
        return Space(name, lambda latents: pixels(_decoded(base, latents)))
    if not Path(name).is_file():
        raise SfumatoError(
            f"--features {name}: name {' or '.join(BUNDLED)}, or a TorchScript file that makes"
            " features of pictures"
        )
    extractor = load_torchscript_extractor(name)

    def of_pictures(pictures: np.ndarray) -> np.ndarray:
        found = np.asarray(extractor.function(pictures), np.float32)
        if found.ndim != 2 or len(found) != len(pictures):
            raise SfumatoError(
                f"--features {Path(name).name} must return [N, d] for N pictures, got"
                f" {list(found.shape)}"
            )
        return found

    def of_latents(latents: torch.Tensor) -> np.ndarray:
        return of_pictures(_decoded(base, latents))

    # a file that was exchanged would be another question under the same noise
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return Space(f"{extractor.name}, SHA-256 {digest}", of_latents, of_pictures)


def require_alone(base: Base, space: Space) -> None:
    """Checks on dummy pictures that features are finite, and of one picture at a time.

    Raises:
        SfumatoError: They are not, so that one private image could move the votes of another.
    """
    g = torch.Generator().manual_seed(0)
    some = torch.randn((6, *base.latent_shape), generator=g)
    _require_alone(space, space.of_latents, some.numpy(), lambda rows: torch.from_numpy(rows))
    if space.of_pictures is not None:
        # Faint ones first and last, so that the darkest and the brightest pixel lie between them.
        shape = (6, base.resolution, base.resolution, 3)
        pictures = torch.randint(120, 137, shape, generator=g, dtype=torch.uint8).numpy()
        _require_alone(space, space.of_pictures, pictures, lambda rows: rows)


def _require_alone(
    space: Space,
    features: Callable[[Any], np.ndarray],
    rows: np.ndarray,
    given: Callable[[np.ndarray], Any],
) -> None:
    """The first and the last row keep their features whatever stands between them."""
    dark, bright = np.zeros_like(rows[0]), np.full_like(rows[0], 255 if rows.dtype == "u1" else 3)
    met: np.ndarray | None = None
    for between in (rows[2], dark, bright):
        batch = rows.copy()
        batch[1:-1] = between
        found = features(given(batch))
        if not np.isfinite(found).all():
            raise SfumatoError(
                f"--features {space.name} gives features that are not finite: take others"
            )
        own = found[[0, -1]]
        met = own if met is None else met
        if not np.array_equal(own, met):
            raise SfumatoError(
                f"--features {space.name}: a picture's features depend on which others are looked"
                " at with it (a batch norm in training mode?), so the promise would not hold: take"
                " others"
            )


def of_candidates(base: Base, space: Space, latents: torch.Tensor) -> np.ndarray:
    """Features float32 [m, d] of candidates, as private images have them: encoded anew.

    Args:
        base: The base.
        space: The feature space.
        latents: [m, C, h, w], as the base has drawn them.
    """
    parts: list[np.ndarray] = []
    for start in range(0, len(latents), ROWS):
        pictures = _decoded(base, latents[start : start + ROWS])
        parts.append(space.of_latents(on_host(base.encode(pictures)[0]).half().float()))
    return np.concatenate(parts)


def of_images(
    folder: Path,
    space: Space,
    mean: np.ndarray,
    order: np.ndarray,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Features float32 [n, d] of all slots, as a memory map; computed once and kept in `folder`.

    Slots are taken in the source's own order, which no image's content changes. A latent of the
    space "latents" is the cached one itself.

    Args:
        folder: The run folder.
        space: The feature space.
        mean: Latents [n, C, h, w], half precision.
        order: int64 [n].
        progress: Called with the number of slots done.

    Raises:
        MachineError: The disk cannot hold them.
    """
    place = folder / FOLDER / "features.npy"
    done = place.with_suffix(".done")
    if done.exists():
        return np.load(place, mmap_mode="r")
    kept = None
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        for start in range(0, len(order), ROWS):
            slots = order[start : start + ROWS]
            found = space.of_latents(torch.from_numpy(np.asarray(mean[slots])).float())
            if kept is None:
                shape = (len(order), found.shape[1])
                kept = np.lib.format.open_memmap(place, "w+", np.float32, shape)
            kept[slots] = found
            progress(min(start + ROWS, len(order)))
        assert kept is not None  # a plan has units
        kept.flush()
        done.touch()
    except OSError as error:
        raise MachineError(
            f"cannot write the features of the images: {error.strerror}; free some space or choose"
            " another disk"
        ) from error
    return np.load(place, mmap_mode="r")


def _decoded(base: Base, latents: torch.Tensor) -> np.ndarray:
    few = 2 * base.together  # ROWS of 32 x 32
    parts = torch.split(latents, few)
    return np.concatenate([base.decode(to_device(part, base.device)) for part in parts])


def pixels(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, R, R, 3] on a coarse grid, float32 [B, 3 * SIDE * SIDE]."""
    x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255
    if x.shape[-1] > SIDE:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
    return x.flatten(1).numpy()
