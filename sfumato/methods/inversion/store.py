"""One private file per image while its embedding waits for the others.

So an interrupted run can continue, and shards need no network.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from ...errors import SfumatoError
from ...training.checkpoint import write_file

FOLDER = "inversions"


def place_of(run_folder: Path, slot: int) -> Path:
    """The file of one slot."""
    return run_folder / FOLDER / f"{slot:06d}.f32"


def write_rows(run_folder: Path, slots: np.ndarray, z: np.ndarray) -> None:
    """Writes each row's coordinates float32 [P], readable by the owner alone.

    Rows with slot -1 are padding and skipped.
    """
    folder = run_folder / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for slot, row in zip(slots, z):
        if slot >= 0:
            write_file(place_of(run_folder, int(slot)), row.astype("<f4").tobytes())
            os.chmod(place_of(run_folder, int(slot)), 0o600)


def read_rows(run_folder: Path, n: int, dimensions: int) -> np.ndarray:
    """Returns the coordinates float32 [n, P] of all slots.

    A file that is missing, cut or not finite counts as the zero vector.
    """
    out = np.zeros((n, dimensions), np.float32)
    for slot in range(n):
        row = _read(place_of(run_folder, slot), dimensions)
        if row is not None and np.isfinite(row).all():
            out[slot] = row
    return out


def is_done(run_folder: Path, slots: np.ndarray, dimensions: int) -> bool:
    """Whether every image of a chunk has its whole file."""
    return all(_read(place_of(run_folder, int(s)), dimensions) is not None for s in slots if s >= 0)


def remove(run_folder: Path, name: str = FOLDER) -> None:
    """Deletes the files, or another private folder of the run; SfumatoError if that fails."""
    try:
        shutil.rmtree(run_folder / name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SfumatoError(
            f"the private files in {run_folder / name} could not be removed: remove them yourself"
        ) from error


def _read(path: Path, dimensions: int) -> np.ndarray | None:
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    return np.frombuffer(blob, "<f4") if len(blob) == 4 * dimensions else None
