"""A data set of labelled images, written whole or not at all.

It sees weights, public prompts and a public seed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bases import Base
from ..errors import MachineError, SfumatoError
from ..options import Sampling
from .prompts import PublicPrompts
from .sampler import image_seed, pictures_in_sizes, resolved

PARQUET_ROWS = 50_000
# (base, prompts, class of every image number, numbers to draw, sampling) -> (numbers, images) in
# pieces, as `pictures_in_sizes` does
Draw = Callable[
    [Base, Sequence[str], np.ndarray, np.ndarray, Sampling],
    Generator[tuple[np.ndarray, np.ndarray | list[np.ndarray]]],
]
PROMPTS_FILE = "prompts file"  # where shares come from


@dataclass(frozen=True)
class Classes:
    """What is drawn: public names, and prompts for each class.

    Attributes:
        names: Names of the classes.
        prompts: One per class, or any number with `of`.
        shares: One per prompt, in any scale.
        source: Origin of the shares: "uniform", "declared", "noisy-histogram" or "prompts file".
        of: The class of each prompt; None: the first prompt is the first class's, and so on.
        file: What the settings say of a file of prompts.
    """

    names: Sequence[str]
    prompts: Sequence[str]
    shares: Sequence[float]
    source: str = "uniform"
    of: Sequence[int] | None = None
    file: Mapping[str, Any] | None = None

    @classmethod
    def of_file(
        cls, names: Sequence[str], told: PublicPrompts, facts: Mapping[str, Any]
    ) -> Classes:
        """What a file of prompts asks for; `facts` go into the settings."""
        numbers = told.numbers(names)
        return cls(told.names(names), told.texts, told.counts, PROMPTS_FILE, numbers, facts)


def class_of_each(n: int, shares: Sequence[float]) -> np.ndarray:
    """Labels int64 [n] in the given shares, as even as whole images allow.

    Interleaved so that any prefix has these shares, too.
    """
    share = np.asarray(shares, dtype=np.float64)
    if not (np.isfinite(share) & (share >= 0)).all() or share.sum() <= 0:
        raise SfumatoError("class shares must be finite, non-negative and not all zero")
    share = share / share.sum()
    given = np.zeros(len(share))
    labels = np.empty(n, dtype=np.int64)
    for i in range(n):
        labels[i] = np.argmax(share * (i + 1) - given)
        given[labels[i]] += 1
    return labels


def shard_indices(n: int, shard: tuple[int, int]) -> np.ndarray:
    """Image numbers of shard i of k (from 0): every k-th.

    So shards are alike in size and classes.
    """
    index, count = shard
    if not 0 <= index < count:
        raise SfumatoError(f"--shard {index}/{count}: the shard number runs from 0 to {count - 1}")
    return np.arange(index, n, count)


def write_dataset(
    base: Base,
    out: Path,
    *,
    n: int,
    classes: Classes,
    sampling: Sampling,
    encode: Callable[[np.ndarray], bytes],
    seal: Callable[[Path, dict[str, Any]], None],
    form: str = "imagefolder",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] = lambda done: None,
    draw: Draw = pictures_in_sizes,
) -> int:
    """Writes `n` labelled images (or one shard of them) as an ImageFolder or parquet data set.

    The folder appears whole or not at all.

    Args:
        base: The adapted base.
        out: A new folder.
        n: How many images in all shards together.
        classes: What is drawn, and how much of each.
        sampling: Sampler, steps, guidance and public seed.
        encode: An image, uint8 [resolution, resolution, 3], as the bytes of a PNG.
        seal: `seal(folder, settings)` puts the certificate beside the images before the folder
            appears.
        form: "imagefolder" or "parquet".
        shard: (i, k).
        progress: Called with the number of images just written.
        draw: Draws the images.

    Returns:
        How many images were written.
    """
    check_request(out, n, classes.shares, form, shard)
    sampling = resolved(sampling, base)
    base.sampler(sampling.scheduler, sampling.steps)
    told = class_of_each(n, classes.shares)  # the place of each picture's prompt
    label_of = range(len(classes.names)) if classes.of is None else classes.of
    indices = shard_indices(n, shard)
    folders = folder_names(classes.names)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        writer = (
            _Parquet(temporary, n, shard) if form == "parquet" else _ImageFolder(temporary, folders)
        )
        with closing(draw(base, classes.prompts, told, indices, sampling)) as drawn:
            for part, images in drawn:
                for i, image in zip(part, images):
                    place = int(told[i])
                    label = label_of[place]
                    writer.add(
                        int(i),
                        encode(image),
                        classes.names[label],
                        classes.prompts[place],
                        label,
                        image_seed(sampling.seed, int(i)),
                    )
                progress(len(part))
        writer.close()
        settings = {
            "scheduler": sampling.scheduler,
            "steps": sampling.steps,
            "guidance": sampling.guidance_scale,
            "public_seed": sampling.seed,
            "n": len(indices),
            "n_of_all_shards": n,
            "shard": f"{shard[0]}/{shard[1]}",
            "class_shares": classes.source,
            "prompts": list(classes.prompts),
            "resolution": base.resolution,
        }
        if base.buckets:
            settings |= {"resolution": None, "sizes": [f"{w}x{h}" for w, h in base.buckets]}
        if classes.file:
            known = list(dict.fromkeys(classes.prompts))
            settings |= {"prompts_file": dict(classes.file), "prompts": known}
        seal(temporary, settings)
        temporary.rename(out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MachineError(
            f"cannot write {out}: {reason}; free some space or choose another disk"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(indices)


def check_request(
    out: Path,
    n: int,
    shares: Sequence[float],
    form: str,
    shard: tuple[int, int],
) -> None:
    """SfumatoError for a request that cannot be met, before anything is written or computed."""
    if n < 1:
        raise SfumatoError(f"-n {n}: ask for at least one image")
    class_of_each(1, shares)
    if form not in ("imagefolder", "parquet"):
        raise SfumatoError(f"--form {form}: choose imagefolder or parquet")
    if not len(shard_indices(n, shard)):
        raise SfumatoError(
            f"--shard {shard[0]}/{shard[1]} of {n} images is empty: use fewer shards"
        )
    if out.exists():
        raise SfumatoError(f"{out} already exists: name a new folder (nothing is overwritten)")


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder per class: `safe_name`, or the class's number if two names would share a folder."""
    names = [safe_name(c, i) for i, c in enumerate(classes)]
    lower = [name.lower() for name in names]
    return [f"class-{i:03d}" if lower.count(name) > 1 else names[i] for i, name in enumerate(lower)]


def safe_name(text: str, number: int) -> str:
    """A folder name for a class: its own name where that is harmless, else `class-NUMBER`."""
    harmless = (
        text.isascii()
        and text.replace("-", "").replace("_", "").replace(" ", "").isalnum()
        and len(text) <= 60
    )
    # `datasets` would read a folder called so as a split of its own.
    split = text.lower() in (
        "train",
        "training",
        "test",
        "testing",
        "eval",
        "evaluation",
        "dev",
        "val",
        "valid",
        "validation",
    )
    return text if harmless and not split and text.strip() == text else f"class-{number:03d}"


class _ImageFolder:
    """train/<class>/000123.png and metadata.jsonl."""

    def __init__(self, root: Path, folders: Sequence[str]):
        self.root, self.folders = root, folders
        for folder in folders:
            (root / "train" / folder).mkdir(parents=True)
        self.table = open(root / "metadata.jsonl", "w", encoding="utf-8")

    def add(
        self, number: int, png: bytes, label: str, prompt: str, label_number: int, seed: int
    ) -> None:
        name = f"train/{self.folders[label_number]}/{number:06d}.png"
        (self.root / name).write_bytes(png)
        row = {"file_name": name, "label": label, "prompt": prompt, "seed": seed}
        self.table.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self.table.close()


class _Parquet:
    """data/train-00000-of-00001.parquet, with the image struct (bytes, path) of `datasets`."""

    def __init__(self, root: Path, n: int, shard: tuple[int, int]):
        # of the largest shard, which is the first
        files = -(-len(range(0, n, shard[1])) // PARQUET_ROWS)
        self.root, self.rows = root / "data", []
        self.part, self.total = shard[0] * files, shard[1] * files
        self.root.mkdir()

    def add(
        self, number: int, png: bytes, label: str, prompt: str, label_number: int, seed: int
    ) -> None:
        picture = {"bytes": png, "path": f"{number:06d}.png"}
        self.rows.append({"image": picture, "label": label, "prompt": prompt, "seed": seed})
        if len(self.rows) == PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        features = {
            "info": {
                "features": {
                    "image": {"_type": "Image"},
                    "label": {"dtype": "string", "_type": "Value"},
                    "prompt": {"dtype": "string", "_type": "Value"},
                    "seed": {"dtype": "int64", "_type": "Value"},
                }
            }
        }
        table = pa.Table.from_pylist(self.rows).replace_schema_metadata(
            {"huggingface": json.dumps(features)}
        )
        pq.write_table(table, self.root / f"train-{self.part:05d}-of-{self.total:05d}.parquet")
        self.rows, self.part = [], self.part + 1

    def close(self) -> None:
        if self.rows:
            self._flush()
