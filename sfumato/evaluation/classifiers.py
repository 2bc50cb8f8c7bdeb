"""Classifiers trained on synthetic images alone and tested on real ones.

Chosen on held-out synthetic images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.compute.allocator import keep_memory
from sfumato.compute.device import device as our_device
from sfumato.compute.device import on_host, to_device
from sfumato.compute.precision import mixed_precision, quick_precision
from sfumato.errors import SfumatoError
from sfumato.evaluation.networks import NAMES, build

BATCH = 128
HELD_OUT = 0.1
# batches of 128; 1,300 take the cnn about 33 CPU seconds on one AVX-512 core
STEPS = {"logistic": 800, "cnn": 1300, "resnet": 1000, "wrn": 1000}
PEAK_RATE = {"logistic": 1e-2, "cnn": 4e-3, "resnet": 6e-3, "wrn": 6e-3}


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: name, number of classes, network, and accuracy on held-out images.

    `held_out_accuracy` is on synthetic images. `grey`: the training images had no colour; real
    images are then reduced to one channel as well.
    """

    name: str
    classes: int
    grey: bool
    shift: Tensor
    scale: Tensor
    network: nn.Module
    held_out_accuracy: float
    seed: int

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class numbers, int64 [N], of uint8 images [N, R, R, 3]."""
        return self._run(images, lambda x: self.network(x).argmax(1)).astype(np.int64)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Penultimate activations, float32 [N, d], of uint8 images [N, R, R, 3]."""
        network: Any = self.network  # one of ours, which has `features`
        return self._run(images, lambda x: network.features(x)).astype(np.float32)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Softmax outputs, float32 [N, classes], of uint8 images [N, R, R, 3]."""
        return self._run(images, lambda x: self.network(x).softmax(1)).astype(np.float32)

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Share (0 to 1) of uint8 images [N, R, R, 3] whose predicted class is their label."""
        labels = _checked_labels(labels, images, self.classes)
        return float((self.predict(images) == labels).mean())

    @torch.inference_mode()
    def _run(
        self, images: np.ndarray, function: Callable[[Tensor], Tensor], batch: int = 500
    ) -> np.ndarray:
        images = _checked_images(images)
        parts = []
        for start in range(0, len(images), batch):
            pixels = to_device(
                _channels(images[start : start + batch], self.grey), self.shift.device
            )
            found = function((pixels.float() - self.shift) / self.scale)
            parts.append(on_host(found, torch.float32).numpy())
        return np.concatenate(parts)


def train_classifier(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int | Sequence[str],
    *,
    seed: int = 0,
    steps: int | None = None,
    augment: bool = True,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Trains a classifier on labelled images.

    A tenth of the images, drawn by `seed`, is held out; the checkpoint with the best accuracy on it
    is returned, so that no real image takes part in any choice. All randomness comes from the
    public `seed`; torch's and numpy's global states are neither read nor written. Threads are
    torch's own setting. Raises SfumatoError for arrays of another shape, labels out of range, fewer
    than 10 images, or an unknown name.

    Args:
        name: "logistic", "cnn", "resnet" or "wrn".
        images: uint8 [N, R, R, 3].
        labels: int [N].
        classes: Their number or their names.
        seed: Public.
        steps: Batches of 128.
        augment: Turn, scale, shear and shift the images.
        device: Where to train (default: the device of the package).
        progress: `progress(step, steps)`, called after each batch.
    """
    if name not in NAMES:
        raise SfumatoError(f"unknown classifier {name!r}; choose from {', '.join(NAMES)}")
    count = classes if isinstance(classes, int) else len(classes)
    images = _checked_images(images)
    labels = _checked_labels(labels, images, count)
    if len(images) < 10:
        raise SfumatoError(f"a classifier needs at least 10 images to train on, got {len(images)}")
    steps = STEPS[name] if steps is None else steps
    if steps < 1:
        raise SfumatoError("steps must be at least 1")

    keep_memory()
    device = device or our_device()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator).numpy()
    held = order[: max(1, round(HELD_OUT * len(order)))]
    kept = order[len(held) :]
    grey = is_grey(images)
    pixels = to_device(_channels(images[kept], grey), device)
    targets = to_device(torch.from_numpy(labels[kept]), device)
    sample = pixels[:: math.ceil(len(pixels) / 5000)].float()
    shift, scale = sample.mean((0, 2, 3), keepdim=True)[0], sample.std().clamp_min(1.0)

    network = build(name, pixels.shape[1], count, generator).to(device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    precision = torch.float32 if name == "logistic" else quick_precision(shift)
    candidate = Classifier(name, count, grey, shift, scale, network, 0.0, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE[name], weight_decay=0.01)
    total = steps + 1
    warm = max(0.2, min(2 / total, 1.0))  # torch divides by zero where the rise has no step
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE[name], total_steps=total, pct_start=warm
    )
    batches = _batches(len(pixels), generator)
    checks = {steps - round(part * steps) for part in (0.3, 0.2, 0.1, 0.05, 0.0)} | {steps}
    best, state = -1.0, None
    for step in range(1, steps + 1):
        rows = to_device(next(batches), device)
        x = (pixels[rows].float() - shift) / scale
        if augment and name != "logistic":
            x = random_affine(x, generator)
        with mixed_precision(precision, x):
            logits = network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), targets[rows], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in checks:
            network.eval()
            score = candidate.accuracy(images[held], labels[held])
            network.train()
            if score >= best:
                best, state = score, {k: v.clone() for k, v in network.state_dict().items()}
        if progress is not None:
            progress(step, steps)
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    return Classifier(name, count, grey, shift, scale, network, best, seed)


def random_affine(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image of x [B, C, R, R] turned, scaled, sheared and shifted.

    By 10 degrees, 12 %, 0.1 and 1.7 px of 32.
    """
    draw = to_device(torch.rand(6, len(x), generator=generator) * 2 - 1, x.device)
    angle = draw[0] * math.radians(10)
    width, height = 1 + 0.12 * draw[1], 1 + 0.12 * draw[2]
    shear, cos, sin = 0.1 * draw[3], angle.cos(), angle.sin()
    far = 2 * 1.7 / 32
    theta = torch.stack(
        [
            torch.stack([cos * width, (shear * cos - sin) * height, far * draw[4]], 1),
            torch.stack([sin * width, (shear * sin + cos) * height, far * draw[5]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    # the border continues white, black or coloured backgrounds alike
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def is_grey(images: np.ndarray) -> bool:
    """Whether uint8 images [N, R, R, 3] have no colour.

    Up to the last levels that a decoder leaves between channels.
    """
    sample = images[:: max(1, len(images) // 500)].astype(np.int16)
    spread = sample.max(-1) - sample.min(-1)
    return bool(np.quantile(spread, 0.999) <= 16)


def _batches(n: int, generator: torch.Generator):
    size = min(BATCH, n)
    while True:
        order = torch.randperm(n, generator=generator)
        for start in range(0, n - size + 1, size):
            yield order[start : start + size]


def _channels(images: np.ndarray, grey: bool) -> Tensor:
    """uint8 [B, R, R, 3] -> uint8 [B, 1 or 3, R, R]."""
    if grey:
        return torch.from_numpy(images.mean(-1, dtype=np.float32).round().astype(np.uint8)[:, None])
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _checked_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or images.shape[1] != images.shape[2]
    ):
        raise SfumatoError(
            f"images must be uint8 [N, R, R, 3], got {images.dtype} {list(images.shape)}"
        )
    if len(images) == 0 or images.shape[1] < 16:
        raise SfumatoError(
            f"images must be at least one, and at least 16 pixels wide, got {list(images.shape)}"
        )
    return images


def _checked_labels(labels: np.ndarray, images: np.ndarray, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise SfumatoError(
            f"labels must be integers [N], one per image, got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise SfumatoError(
            f"labels must lie in 0..{classes - 1}; drop the images without a usable label first"
        )
    return labels.astype(np.int64)
