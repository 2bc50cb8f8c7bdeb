"""Weights, public prompts and a public seed in; labelled pictures out. It sees nothing else."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .bases import Base, decode_latents, embed_prompts, make_scheduler
from .errors import SfumatoError

PARQUET_ROWS = 50_000


@dataclass(frozen=True)
class Sampling:
    """Public settings of synthesis. scheduler: any diffusers scheduler's class name. guidance_scale 1 means none.

    eta-like randomness belongs to the scheduler; every random number of image i comes from hash(seed, i).
    """

    scheduler: str = "DPMSolverMultistepScheduler"
    steps: int = 10
    guidance_scale: float = 1.0
    seed: int = 0
    batch: int = 256


def image_seed(seed: int, index: int) -> int:
    """The public seed of image `index`: 63 bits of SHA-256 over (seed, index), whatever the shard."""
    return int.from_bytes(hashlib.sha256(f"sfumato image {seed} {index}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def generate(
    base: Base, prompts: Sequence[str], labels: np.ndarray, indices: np.ndarray, sampling: Sampling
) -> np.ndarray:
    """uint8 pictures [len(indices), R, R, 3] for image numbers `indices` of classes `labels`.

    Each image has its own generator, so its pixels do not depend on which others share its batch (up to the
    rounding of batched kernels).
    """
    scheduler = make_scheduler(base, sampling.scheduler)
    scheduler.set_timesteps(sampling.steps)
    if "Ancestral" in sampling.scheduler:
        # Cosine schedules begin at sigma 20,000: in single precision the first ancestral step is the root of a negative.
        scheduler.sigmas = scheduler.sigmas.double()
    context = embed_prompts(base, list(prompts) + [""])
    text = context[torch.from_numpy(labels)]
    generators = [torch.Generator().manual_seed(image_seed(sampling.seed, int(i))) for i in indices]
    shape = (base.unet.config.in_channels, base.latent_size, base.latent_size)
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators]) * scheduler.init_noise_sigma
    guided = sampling.guidance_scale != 1.0
    if guided:
        text = torch.cat([context[-1:].expand_as(text), text])
    extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = base.unet(model_input, t, text).sample
        predicted = predicted.float()
        if guided:
            empty, told = predicted.chunk(2)
            predicted = empty + sampling.guidance_scale * (told - empty)
        latents = scheduler.step(predicted, t, latents, **extra).prev_sample
    if not torch.isfinite(latents).all():
        raise SfumatoError(
            f"{sampling.scheduler} with {sampling.steps} steps gives pictures that are not finite on this base: "
            "take more steps or another --scheduler"
        )
    return decode_latents(base, latents)


def class_of_each(n: int, shares: Sequence[float]) -> np.ndarray:
    """Labels int64 [n] in the given shares, as even as whole images allow, interleaved so that any prefix is fair."""
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
    """Image numbers of shard i of k (from 0): every k-th, so shards are alike in size and classes."""
    index, count = shard
    if not 0 <= index < count:
        raise SfumatoError(f"--shard {index}/{count}: the shard number runs from 0 to {count - 1}")
    return np.arange(index, n, count)


def pictures(
    base: Base, prompts: Sequence[str], labels: np.ndarray, indices: np.ndarray, sampling: Sampling
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (image numbers, uint8 pictures)."""
    for start in range(0, len(indices), sampling.batch):
        part = indices[start : start + sampling.batch]
        yield part, generate(base, prompts, labels[part], part, sampling)


def write_dataset(
    base: Base,
    out: Path,
    *,
    n: int,
    classes: Sequence[str],
    prompts: Sequence[str],
    shares: Sequence[float],
    share_source: str,
    sampling: Sampling,
    seal: Callable[[Path, dict], None],
    form: str = "imagefolder",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write `n` labelled pictures (or one shard of them) as an ImageFolder or parquet data set; returns how many.

    The folder appears whole or not at all. `share_source` says where the class shares come from: uniform, declared
    or noisy-histogram. `seal(folder, settings)` puts the certificate beside the pictures before the folder appears.
    """
    check_request(out, n, shares, form, shard, sampling)
    make_scheduler(base, sampling.scheduler)
    labels = class_of_each(n, shares)
    indices = shard_indices(n, shard)
    folders = folder_names(classes)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        writer = _Parquet(temporary, n, shard) if form == "parquet" else _ImageFolder(temporary, folders)
        for part, images in pictures(base, prompts, labels, indices, sampling):
            for i, image in zip(part, images):
                label = int(labels[i])
                writer.add(int(i), image, classes[label], prompts[label], label, image_seed(sampling.seed, int(i)))
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
            "class_shares": share_source,
            "prompts": list(prompts),
            "resolution": base.resolution,
        }
        seal(temporary, settings)
        temporary.rename(out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SfumatoError(f"cannot write {out}: {reason}; free some space or choose another disk") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(indices)


def check_request(
    out: Path, n: int, shares: Sequence[float], form: str, shard: tuple[int, int], sampling: Sampling
) -> None:
    """SfumatoError for a request that cannot be met, before anything is written down or computed."""
    if n < 1:
        raise SfumatoError(f"-n {n}: ask for at least one picture")
    class_of_each(1, shares)
    if form not in ("imagefolder", "parquet"):
        raise SfumatoError(f"--form {form}: choose imagefolder or parquet")
    if sampling.steps < 1 or sampling.batch < 1:
        raise SfumatoError("--steps and --batch must be at least 1")
    if not len(shard_indices(n, shard)):
        raise SfumatoError(f"--shard {shard[0]}/{shard[1]} of {n} pictures is empty: ask for fewer shards")
    if out.exists():
        raise SfumatoError(f"{out} exists: name a new folder (nothing is overwritten)")


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder per class: `safe_name`, or the class's number where two names would meet in one folder."""
    names = [safe_name(c, i) for i, c in enumerate(classes)]
    lower = [name.lower() for name in names]
    return [f"class-{i:03d}" if lower.count(name) > 1 else names[i] for i, name in enumerate(lower)]


def safe_name(text: str, number: int) -> str:
    """A folder name for a class: its own name where that is harmless, else `class-NUMBER`."""
    harmless = text.isascii() and text.replace("-", "").replace("_", "").replace(" ", "").isalnum() and len(text) <= 60
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

    def add(self, number: int, image: np.ndarray, label: str, prompt: str, label_number: int, seed: int) -> None:
        name = f"train/{self.folders[label_number]}/{number:06d}.png"
        Image.fromarray(image).save(self.root / name, compress_level=4)
        row = {"file_name": name, "label": label, "prompt": prompt, "seed": seed}
        self.table.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self.table.close()


class _Parquet:
    """data/train-00000-of-00001.parquet with the image struct (bytes, path) that `datasets` reads."""

    def __init__(self, root: Path, n: int, shard: tuple[int, int]):
        files = -(-len(range(0, n, shard[1])) // PARQUET_ROWS)  # of the largest shard, which is the first
        self.root, self.rows = root / "data", []
        self.part, self.total = shard[0] * files, shard[1] * files
        self.root.mkdir()

    def add(self, number: int, image: np.ndarray, label: str, prompt: str, label_number: int, seed: int) -> None:
        blob = io.BytesIO()
        Image.fromarray(image).save(blob, "PNG", compress_level=4)
        picture = {"bytes": blob.getvalue(), "path": f"{number:06d}.png"}
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
        table = pa.Table.from_pylist(self.rows).replace_schema_metadata({"huggingface": json.dumps(features)})
        pq.write_table(table, self.root / f"train-{self.part:05d}-of-{self.total:05d}.parquet")
        self.rows, self.part = [], self.part + 1

    def close(self) -> None:
        if self.rows:
            self._flush()
