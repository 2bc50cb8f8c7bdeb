"""Sizes of a base's pictures and latents: its square, or the public sizes that take its place."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from ...errors import ModelError
from ..together import pictures_together
from .info import BaseInfo


class Sizes:
    """The sizes that a `Base` sees and draws."""

    # Whether the denoiser takes latents of any height and width, so that `buckets` can be declared.
    any_size: ClassVar[bool] = False

    family: ClassVar[str]
    info: BaseInfo
    # Public sizes (width, height) in place of the square; set by `use_buckets`.
    buckets: tuple[tuple[int, int], ...] = ()

    @property
    def resolution(self) -> int:
        """Height and width of its images, in pixels."""
        return self.info.resolution

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) in pixels of the pictures that it sees and draws: its square or more."""
        return self.buckets or ((self.info.resolution, self.info.resolution),)

    @property
    def largest(self) -> tuple[int, int]:
        """That of `sizes` with the most pixels: what time and memory are reckoned for."""
        return max(self.sizes, key=lambda size: size[0] * size[1])

    @property
    def together(self) -> int:
        """Pictures of that size that are drawn and decoded together."""
        return pictures_together(*self.largest)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of its latents; of several sizes of the first."""
        return self.latent_shapes[0]

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, h, w) of its latents for each of `sizes`."""
        channels, height, width = self.info.latent_shape
        side = self.info.resolution
        return tuple((channels, height * h // side, width * w // side) for w, h in self.sizes)

    def use_buckets(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Sees and draws pictures of these sizes instead of its square.

        Args:
            sizes: (width, height) in pixels, public; none for the square.

        Raises:
            ModelError: A base that takes its square alone, or a size that it does not take.
        """
        if sizes and not self.any_size:
            raise ModelError(
                f"--buckets: a {self.family} base takes its own size alone: leave it out"
            )
        unit = self.info.resolution // self.info.latent_shape[1] * self.size_unit
        for width, height in sizes:
            if width % unit or height % unit:
                raise ModelError(
                    f"--buckets {width}x{height}: this base takes multiples of {unit} pixels"
                )
            most = self.longest and self.longest * unit // self.size_unit
            if most and max(width, height) > most:
                raise ModelError(
                    f"--buckets {width}x{height}: this base takes sides of at most {most} pixels"
                )
        self.buckets = tuple(sizes)

    @contextmanager
    def seeing(self, size: tuple[int, int]) -> Generator[None]:
        """Inside the block the base has this one of its `sizes`: for checks and dummy rows."""
        before = self.buckets
        self.buckets = before and (size,)
        try:
            yield
        finally:
            self.buckets = before

    def at(self, size: tuple[int, int]) -> Self:
        """The same base, of the same parts, with this one of its `sizes` alone: for any thread."""
        one = copy.copy(self)
        one.buckets = self.buckets and (size,)
        return one

    @property
    def longest(self) -> int | None:
        """Numbers of a latent's side that its denoiser has places for; None for any number."""
        return None

    @property
    def size_unit(self) -> int:
        """Numbers of a latent's side that its height and width are multiples of."""
        return 1
