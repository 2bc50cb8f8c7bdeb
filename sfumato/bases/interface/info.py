"""What a base is, before its weights are read: `BaseInfo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

Condition = Literal["none", "class", "text"]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class BaseInfo:
    """A base's properties, read from its folder's settings and the headers of its weight files.

    Attributes:
        name: As the user gave it: a bundled name or a path.
        family: The model family, such as "stable-diffusion".
        folder: The folder of the files.
        resolution: Side of an image, in pixels.
        latent_shape: (channels, height, width) of the denoiser's input for one image.
        condition: What the denoiser is conditioned on: nothing, a class, or a text.
        prediction: What it predicts: the noise, the velocity (Salimans and Ho, arXiv 2202.00512),
            the picture, or the direction of a flow (Lipman et al., 2210.02747).
        licence: As the folder's model card states it; None if it does not.
        parameters: Numbers in all weights, frozen ones included.
        size: Bytes of all files.
        digest_of: Computes `digest`.
        held: Bytes of all weights as they are held in memory.
        unread: Names of files with weights in other formats, which nothing opens.
    """

    name: str
    family: str
    folder: Path
    resolution: int
    latent_shape: tuple[int, int, int]
    condition: Condition
    prediction: Prediction
    licence: str | None
    parameters: int
    size: int
    digest_of: Callable[[], str] = field(repr=False, compare=False)
    held: int = field(default=0, repr=False, compare=False)
    unread: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files, computed when it is first asked for."""
        return self.digest_of()
