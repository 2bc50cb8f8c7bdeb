"""Batched inversion: many embeddings learned in one pass of the frozen model.

Each is a function of its own image alone.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...bases import TextBase
from ...bases.conditioning import Conditioning, each
from ...compute.device import on_host, to_device
from ...compute.precision import Stage
from ...privacy.mechanisms.mean import STEP
from ...privacy.random.keys import RunKey
from ...training.data import LatentData
from ...training.objective import Batch, denoising_losses
from .geometry import Geometry


@dataclass(frozen=True)
class InversionRecipe:
    """How one image is inverted; public, and the same for all.

    None of it affects privacy.

    Attributes:
        steps: At most so many, each on `draws` draws of (time, noise).
        draws: Draws per step.
        step_size: Of Adam, as a share of the radius that an embedding may have.
        checks: Draws of a fixed set on which a row's own average iterate is evaluated.
        check_every: Steps between evaluations.
        tolerance: A row stops for good when its loss has not fallen by this share since the last
            one.
        average: Decay per step.
        stratified: The times of a step's draws are spread evenly, so that none of them leaves a
            range
            of times out.
    """

    steps: int = 80
    draws: int = 4
    step_size: float = 0.05
    checks: int = 16
    check_every: int = 20
    tolerance: float = 0.002
    average: float = 0.9
    stratified: bool = True


@dataclass(frozen=True)
class Chunk:
    """A fixed number of rows. `slots` int64 [J]: the image of each row, -1 for none."""

    slots: np.ndarray

    @property
    def rows(self) -> int:
        """How many rows the chunk has, padding included."""
        return len(self.slots)


def chunks(order: np.ndarray, rows: int) -> list[Chunk]:
    """Returns all images in `order`, `rows` at a time, the last chunk padded.

    No row's position depends on another image's content.
    """
    padded = np.full(-(-len(order) // rows) * rows, -1, np.int64)
    padded[: len(order)] = order
    return [Chunk(part) for part in padded.reshape(-1, rows)]


class Inverter:
    """The frozen model with everything public around it; `invert` learns one chunk.

    Isolation. A row's randomness is keyed by its own content, its Adam state is elementwise, its
    stop is a rule of its own loss, the loss is a sum over rows, and nothing is clipped, scaled or
    normalised across rows. The number of rows is fixed and an empty or stopped row is computed all
    the same, so that no kernel sees another shape: the bits of one row do not change when another
    image is replaced by nothing. `self_check` asks the machine for just that.
    """

    def __init__(
        self,
        base: TextBase,
        prompts: Sequence[str],
        placeholders: Sequence[str],
        geometry: Geometry,
        recipe: InversionRecipe,
        precision: Stage | torch.dtype = "invert",
    ):
        self.geometry, self.recipe = geometry, recipe
        self.encoder = base.vector_encoder(prompts, placeholders, geometry.vectors)
        self.latent_shape, self.times = base.latent_shape, base.times
        self.base = base
        self.precision: Stage | torch.dtype = precision

    def row_losses(self, batch: Batch, words: Conditioning) -> torch.Tensor:
        """Denoising loss of every draw, [J * K], with a condition of each of the J rows.

        It stands with each of the row's draws by expanding, since gradients of an index with
        repetitions are added in whatever order threads come.
        """

        def for_each_draw(draw: torch.Tensor) -> Conditioning:
            return each(words, lambda part: _repeated(part, len(draw) // len(part)))

        return denoising_losses(self.base, for_each_draw, self.precision)(batch)

    def with_recipe(self, recipe: InversionRecipe) -> Inverter:
        """The same model and geometry under another recipe."""
        other = copy.copy(self)
        other.recipe = recipe
        return other

    def invert(
        self,
        data: LatentData,
        chunk: Chunk,
        key: RunKey,
        attempt: int = 0,
        on_step: Callable[[int], None] = lambda done: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inverts the images of a chunk, each alone.

        Returns coordinates float32 [J, P] from the class's anchor, zeros for rows without a usable
        image, and the steps taken, int64 [J].

        Args:
            data: The private latents.
            chunk: Which image is in which row.
            key: The run key of the attempt.
            attempt: The attempt.
            on_step: Called with the number of steps that are done.
        """
        recipe, radius = self.recipe, self.geometry.radius
        rows = self._rows(data, chunk, key, attempt)
        where = self.base.device
        z = torch.zeros(chunk.rows, self.geometry.dimensions, device=where)
        first, second, average = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(z)
        active = rows.usable.clone()
        taken = torch.zeros(chunk.rows, dtype=torch.int64, device=where)
        before = torch.full((chunk.rows,), torch.inf, device=where)
        fixed = rows.draws(-1, recipe.checks)
        for step in range(recipe.steps):
            if not active.any():
                break
            leaf = z.clone().requires_grad_(True)
            grad = torch.autograd.grad(
                self._losses(leaf, rows, rows.draws(step, recipe.draws)).sum(), leaf
            )[0]
            first, second = first.lerp(grad, 0.1), second.lerp(grad * grad, 0.01)
            mean, square = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.99 ** (step + 1))
            moved = z - recipe.step_size * radius * mean / (square.sqrt() + 1e-12)
            # Back into the ball that is public: a row's own norm, nobody else's.
            moved = moved * (radius / moved.norm(dim=1, keepdim=True).clamp_min(radius))
            decay = min(recipe.average, step / (step + 1))
            on = active[:, None]
            z, average = (
                torch.where(on, moved, z),
                torch.where(on, average.lerp(moved, 1 - decay), average),
            )
            taken += active
            on_step(step + 1)
            if (step + 1) % recipe.check_every == 0 and step + 1 < recipe.steps:
                with torch.no_grad():
                    now = self._losses(average, rows, fixed).view(chunk.rows, -1).mean(1)
                active = active & (now < before * (1 - recipe.tolerance))
                before = now
        average[~rows.usable] = 0.0
        return on_host(average).numpy(), on_host(taken).numpy()

    def vectors(self, z: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns embeddings float32 [n, V * D] for coordinates [n, P] of images of classes [n]."""
        return (
            self.geometry.embeddings(torch.from_numpy(z), torch.from_numpy(label))
            .flatten(1)
            .numpy()
        )

    def losses(
        self, data: LatentData, chunk: Chunk, key: RunKey, z: np.ndarray, draws: int = 64
    ) -> np.ndarray:
        """Returns the denoising loss, float32 [J], of coordinates [J, P]: to compare recipes with.

        On draws that inversion never used.
        """
        rows = self._rows(data, chunk, key, 0)
        at = to_device(torch.from_numpy(z), self.base.device)
        with torch.no_grad():
            found = [
                self._losses(at, rows, rows.draws(-2 - i, 16)).view(chunk.rows, -1).mean(1)
                for i in range(draws // 16)
            ]
        return on_host(torch.stack(found).mean(0)).numpy()

    def _rows(self, data: LatentData, chunk: Chunk, key: RunKey, attempt: int) -> _Rows:
        where, shape = self.base.device, self.latent_shape
        return _Rows(data, chunk, key, attempt, shape, self.times, self.recipe, where)

    def _losses(self, z: torch.Tensor, rows: _Rows, batch: Batch) -> torch.Tensor:
        space = self.geometry.to(z.device)
        words = self.encoder(space.embeddings(z, rows.label), rows.label)
        return self.row_losses(batch, words)

    def self_check(self, rows: int) -> bool:
        """Returns whether a row keeps its bits on this machine when another image is removed."""
        rng = np.random.default_rng(0)
        mean = rng.standard_normal((rows, *self.latent_shape)).astype(np.float16)
        label = np.zeros(rows, np.int64)
        key, chunk = RunKey(bytes(32)), Chunk(np.arange(rows))
        short = self.with_recipe(replace(self.recipe, steps=2, check_every=1, checks=2))
        found = []
        for gone in (None, 0, rows // 2):
            changed = label.copy()
            if gone is not None:
                changed[gone] = -1
            data = LatentData(
                mean, np.full_like(mean, 0.1), changed, np.arange(rows), np.arange(rows + 1)
            )
            found.append(short.invert(data, chunk, key)[0])
            if gone is not None and rows > 1:
                kept = np.arange(rows) != gone
                if found[-1][kept].tobytes() != found[0][kept].tobytes():
                    return False
        return bool(np.abs(found[0]).max() > 0)


class _Rows:
    """The images of one chunk, and each row's own randomness."""

    def __init__(
        self,
        data: LatentData,
        chunk: Chunk,
        key: RunKey,
        attempt: int,
        shape: tuple,
        times: int,
        recipe: InversionRecipe,
        where: torch.device,
    ):
        slot, there = np.maximum(chunk.slots, 0), chunk.slots >= 0
        label = np.where(there, data.label[slot], -1)
        self.usable, self.label = (
            to_device(torch.from_numpy(label >= 0), where),
            to_device(torch.from_numpy(np.maximum(label, 0)), where),
        )
        # A row without an image holds zeros, so that nothing of what stood there stays in the
        # arithmetic.
        keep = (label >= 0).reshape(-1, 1, 1, 1)
        arrays = [
            np.where(keep, np.asarray(a[slot], np.float32), 0.0).astype(np.float32)
            for a in (data.mean, data.std)
        ]
        self.mean, self.std = (to_device(torch.from_numpy(a), where) for a in arrays)
        self.names = [
            hashlib.sha256(
                a.tobytes() + b.tobytes() + int(c).to_bytes(8, "little", signed=True)
            ).hexdigest()
            for a, b, c in zip(*arrays, label)
        ]
        self.key, self.attempt, self.shape, self.times = key, attempt, shape, times
        self.stratified = recipe.stratified

    def draws(self, number: int, k: int) -> Batch:
        """`k` draws of every row: of step `number`, or for numbers below zero of a set of its own.

        Keyed by run key, number and the row's content, so neither its place nor who else is there
        matters. Times are stratified over the k draws of one row.
        """
        rows, size = len(self.names), int(np.prod(self.shape))
        where = ("unit", STEP + 1 + (number if number >= 0 else (1 << 30) - number), self.attempt)
        uniform = self.key.uniforms_for(
            *where, [f"{n}/choice" for n in self.names], 1 if self.stratified else k
        )
        normal = self.key.normals_for(*where, [f"{n}/normal" for n in self.names], 2 * k * size)
        u = (np.arange(k) + uniform) / k if self.stratified else uniform
        time = np.minimum((self.times * u).astype(np.int64), self.times - 1)
        where = self.mean.device
        noise = to_device(torch.from_numpy(normal.astype(np.float32)), where)
        noise = noise.view(rows, 2, k, *self.shape)
        spread = (rows, k, *self.shape)
        return Batch(
            mean=self.mean[:, None].expand(spread),
            std=self.std[:, None].expand(spread),
            label=torch.arange(rows, device=where)[:, None].expand(rows, k),
            latent_noise=noise[:, 0],
            noise=noise[:, 1],
            time=to_device(torch.from_numpy(time), where),
            drop=torch.zeros(rows, k, dtype=torch.bool, device=where),
            weight=self.usable.float()[:, None].expand(rows, k),
        )


def _repeated(part: torch.Tensor, times: int) -> torch.Tensor:
    return part[:, None].expand(-1, times, *part.shape[1:]).flatten(0, 1)
