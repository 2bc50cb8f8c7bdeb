"""Images from weights, public prompts and a public seed, several pieces at a time."""

from __future__ import annotations

import hashlib
import inspect
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from ..bases import Base
from ..bases.conditioning import Conditioning, concatenate, repeat, rows
from ..bases.interface import PROMPTS
from ..compute.allocator import keep_memory
from ..compute.device import is_host, to_device
from ..compute.threads import threads as threads_now
from ..compute.threads import use_threads
from ..errors import SfumatoError
from ..options import Sampling

T = TypeVar("T")

# Pictures that are computed together. On a small denoiser two pieces on one core each are faster
# than one piece on two cores, because no layer waits for the slower core; below about this size
# Python takes a share of the time. Of large pictures fewer (`Base.together`).
PIECE = 256
# On a GPU as many as have these pixels, in one piece: 16 of Stable Diffusion's.
GPU_PIXELS = 16 * 512 * 512


def resolved(sampling: Sampling, base: Base) -> Sampling:
    """The same with the class of the scheduler where it says `auto`."""
    if sampling.scheduler != "auto":
        return sampling
    try:
        base.sampler(base.default_sampler, sampling.steps)
    except SfumatoError:
        return replace(sampling, scheduler=base.own_sampler)
    return replace(sampling, scheduler=base.default_sampler)


def image_seed(seed: int, index: int) -> int:
    """The public seed of image `index`, in any shard: 63 bits of SHA-256 over (seed, index)."""
    return (
        int.from_bytes(hashlib.sha256(f"sfumato image {seed} {index}".encode()).digest()[:8], "big")
        >> 1
    )


def pictures(
    base: Base, prompts: Sequence[str], labels: np.ndarray, indices: np.ndarray, sampling: Sampling
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yields (image numbers, uint8 images [P, R, R, 3]) piece by piece, in the order of `indices`.

    Each image has its own generator, so its pixels do not depend on which others share its piece
    (up to the rounding of batched kernels), nor on the number of workers. Close the iterator to
    stop early. Raises SfumatoError if images are not finite.

    Args:
        base: The adapted base.
        prompts: Any number.
        labels: Place of every image's prompt among them, int64.
        indices: Numbers of the images to draw.
        sampling: Sampler, steps, guidance and public seed.
    """
    sampler = Sampler(base, prompts, sampling)
    return in_pieces(sampler, indices, lambda part: sampler.draw(labels[part], part))


def pictures_in_sizes(
    base: Base, prompts: Sequence[str], labels: np.ndarray, indices: np.ndarray, sampling: Sampling
) -> Generator[tuple[np.ndarray, np.ndarray | list[np.ndarray]], None, None]:
    """As `pictures`, in all the base's sizes in turn: image i has the size i modulo their number.

    Of several sizes a piece is a list.
    """
    if len(base.sizes) == 1:
        return pictures(base, prompts, labels, indices, sampling)
    sampler = Sampler(base, prompts, sampling)
    return in_pieces(sampler, indices, lambda part: sampler.draw_in_sizes(labels[part], part))


def in_pieces(
    sampler: Sampler, indices: np.ndarray, work: Callable[[np.ndarray], T]
) -> Generator[tuple[np.ndarray, T], None, None]:
    """Yields (numbers, `work` of them) piece by piece, in the order of `indices`.

    Pieces are computed in worker threads that share torch's threads, while the caller writes the
    last one. Close the iterator to stop them early.

    Args:
        sampler: What all pieces share.
        indices: Numbers of the images.
        work: Computes a piece; several threads call it.
    """
    keep_memory()
    base, sampling = sampler.base, sampler.sampling
    host = is_host(base.device)
    most = min(PIECE, base.together) if host else GPU_PIXELS // math.prod(base.largest)
    size = min(sampling.batch, max(1, most))
    pieces = deque(indices[start : start + size] for start in range(0, len(indices), size))
    threads = threads_now()
    # a GPU computes one piece at a time as fast as several
    workers = max(1, min(sampling.batch // size, threads, len(pieces))) if host else 1
    # A worker sets the number of threads for itself, but torch has settings that are common to all:
    # hence the end.
    pool = ThreadPoolExecutor(
        workers, "sampler", initializer=use_threads, initargs=(threads // workers,)
    )
    sampler.stopped.clear()  # its last pieces may have been stopped
    running: deque[tuple[np.ndarray, Future[Any]]] = deque()
    try:
        while pieces or running:
            # One more than there are workers, so that none waits while the caller writes.
            while pieces and len(running) <= workers:
                part = pieces.popleft()
                running.append((part, pool.submit(work, part)))
            part, future = running.popleft()
            yield part, future.result()
    finally:
        sampler.stopped.set()
        pool.shutdown(cancel_futures=True)
        use_threads(threads)


class Sampler:
    """What all pieces of a run share, prepared once: denoiser, prompt embeddings and settings."""

    def __init__(
        self,
        base: Base,
        prompts: Sequence[str],
        sampling: Sampling,
        text: Conditioning | None = None,
    ):
        self.base, self.sampling = base, resolved(sampling, base)
        self.denoise = base.make_denoise(sampling.guidance_scale)
        self.prompts = prompts
        with torch.no_grad():
            # the empty prompt, for guidance, comes last; many prompts are read piece by piece
            few = [*prompts, ""] if len(prompts) < PROMPTS else [""]
            self.text = base.condition(few) if text is None else text
        self.whole = text is not None or len(prompts) < PROMPTS
        if self.whole:
            base.drop_encoders()
        self.stopped = threading.Event()

    def _told(self, labels: np.ndarray) -> Conditioning:
        """The condition of each prompt number."""
        if self.whole:
            return rows(self.text, to_device(torch.from_numpy(labels), self.base.device))
        asked, place = np.unique(labels, return_inverse=True)
        pieces = [asked[i : i + PROMPTS] for i in range(0, len(asked), PROMPTS)]
        read = [self.base.condition([self.prompts[int(n)] for n in piece]) for piece in pieces]
        return rows(concatenate(read), to_device(torch.from_numpy(place), self.base.device))

    @torch.no_grad()
    def draw_in_sizes(self, labels: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        """As `draw`, but image i has the base's size i modulo their number."""
        sizes, found = self.base.sizes, dict[int, np.ndarray]()
        for one, size in enumerate(sizes):
            own = indices % len(sizes) == one
            if own.any():
                drawn = self.latents(labels[own], indices[own], size=size)
                found |= dict(zip(indices[own].tolist(), self.base.decode(drawn)))
        return [found[int(i)] for i in indices]

    def draw(self, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Draws image numbers `indices` of prompts `labels`, uint8 [B, h, w, 3], in the first size.

        Several threads may call it.
        """
        return self.base.decode(self.latents(labels, indices))

    @torch.no_grad()
    def latents(
        self,
        labels: np.ndarray,
        indices: np.ndarray,
        start: torch.Tensor | None = None,
        strength: float = 1.0,
        size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """The latents [B, C, h, w] of image numbers `indices` of classes `labels`.

        Several threads may call it.

        Args:
            labels: int64 [B].
            indices: int64 [B].
            start: Latents [B, C, h, w] to vary by partial noising and denoising (SDEdit,
                arXiv 2108.01073); None: from pure noise.
            strength: With `start`, the share of the sampler's steps that are run.
            size: One of the base's, by which flows shift their times; None: the first.
        """
        base, sampling = self.base.at(size or self.base.sizes[0]), self.sampling
        scheduler = base.sampler(sampling.scheduler, sampling.steps)
        generators = [
            torch.Generator().manual_seed(image_seed(sampling.seed, int(i))) for i in indices
        ]
        drawn = torch.stack([torch.randn(base.latent_shape, generator=g) for g in generators])
        # drawn on the host, so that a seed means the same picture on every device
        noise, times = to_device(drawn, base.device), scheduler.timesteps
        if start is None:
            latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
        else:
            times = times[len(times) - max(1, round(strength * len(times))) :]
            latents = _noised(scheduler, to_device(start, base.device), noise, times)
        extra = (
            {"generator": generators}
            if "generator" in inspect.signature(scheduler.step).parameters
            else {}
        )
        text = self._told(labels)
        guided = sampling.guidance_scale != 1.0 and not base.embeds_guidance
        if guided:
            empty = repeat(rows(self.text, slice(-1, None)), len(labels))
            text = concatenate([empty, text])
        scale = getattr(scheduler, "scale_model_input", lambda noisy, _: noisy)
        memory: dict[str, Any] = {}
        for t in times:
            if self.stopped.is_set():
                raise CancelledError
            model_input = scale(torch.cat([latents] * 2) if guided else latents, t)
            predicted = self.denoise(model_input, t, text, memory)
            if guided:
                predicted = base.guide(*predicted.chunk(2), sampling.guidance_scale)
            latents = scheduler.step(predicted, t, latents, **extra).prev_sample
        if not torch.isfinite(latents).all():
            raise SfumatoError(
                f"{sampling.scheduler} with {sampling.steps} steps gives images with"
                " non-finite values on this base: use more steps or another --scheduler"
            )
        return latents


def _noised(
    scheduler: Any, start: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """`start` as noisy as a scheduler's latents are at the first of `times`."""
    first = len(scheduler.timesteps) - len(times)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    at = times[:1].expand(len(start))
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(start, noise, at)
    return scheduler.scale_noise(start, at, noise)  # a flow's
