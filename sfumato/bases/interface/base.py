"""`Base`: what methods, planning and the sampler ask of a public model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...compute.device import device
from ...compute.precision import Formats, mixed_precision
from ...errors import ModelError
from ..conditioning import Conditioning
from .info import BaseInfo
from .sizes import Sizes
from .told import Told

TRIAL = 32  # sides of latents that are tried when a base is opened
Denoise = Callable[[torch.Tensor, torch.Tensor, Conditioning, dict[str, Any]], torch.Tensor]


class Base(Sizes, Told, ABC):
    """A public model that methods adapt; one subclass per model family.

    Latents are float32 [R, C, h, w] with the shape `info.latent_shape`; a diffusion time is an
    integer from 0 to `times - 1`, and a larger one means more noise. No function of a base couples
    two rows: what it computes for an image depends on that image alone.
    """

    family: ClassVar[str]
    # Component folders that a pipeline must have -> the classes it may name; None: any scheduler.
    components: ClassVar[Mapping[str, Collection[str] | None]]
    # Component folders that may lie beside them and are not opened.
    optional: ClassVar[Collection[str]] = ()
    # Components that a folder may do without: its index names no class for them.
    dispensable: ClassVar[Collection[str]] = ()
    # Name of the denoiser in checkpoints, ledger notes and the addresses of noise. Never changed:
    # a run folder goes on only with the names that it started with.
    prefix: ClassVar[str]
    # Whether the family's pipelines load adapters (`as_pipeline`, `write_lora`).
    adapters: ClassVar[bool] = False
    # The scheduler that draws unless another is named; the base's own where it does not fit.
    default_sampler: ClassVar[str] = "DPMSolverMultistepScheduler"
    # Whether the longest text of a pass sets the shape in which all its rows are computed. Rounding
    # would then tell of who else is in it, so that units are trained one at a time.
    ragged: ClassVar[bool] = False
    # Whether the denoiser takes the guidance scale itself, so that no empty prompt is drawn beside.
    embeds_guidance: bool = False

    info: BaseInfo
    # As the base came with it.
    scheduler: Any
    # Where the denoiser will be, of a base whose denoiser waits on the host to be shared.
    goes_to: torch.device | None = None
    # Of its products, stage by stage; a run sets what it has chosen (`methods.formats`).
    formats: Formats = Formats()

    @classmethod
    @abstractmethod
    def read_info(cls, name: str, folder: Path) -> BaseInfo:
        """Describe the base in `folder`, whose files have been checked, without reading weights.

        Raises:
            ModelError: For settings that this package cannot adapt.
        """

    @classmethod
    @abstractmethod
    def load(cls, info: BaseInfo) -> Base:
        """Open the base on the CPU, in single precision, frozen.

        Raises:
            ModelError: For weights that are missing, do not fit, or are not finite.
        """

    @property
    def name(self) -> str:
        """The name by which the base is opened and which certificates state."""
        return self.info.name

    @property
    def digest(self) -> str:
        """SHA-256 over the base's files."""
        return self.info.digest

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """What predicts noise or velocity: the model that methods train."""

    @property
    def device(self) -> torch.device:
        """Where the denoiser is, and with it all that computes."""
        first = next(self.denoiser.parameters(), None)
        return device() if first is None else first.device

    @property
    def told_on(self) -> torch.device:
        """Where conditions go: to the denoiser, or where it will be once ranks share it."""
        return self.goes_to or self.device

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Put every part that computes onto a device; latents and images stay in host memory.

        Here: the denoiser. A family with other parts moves them too.

        Args:
            where: The device.
            denoiser: The denoiser, too; False leaves it where it is.
        """
        if denoiser:
            self.denoiser.to(where)

    def checkpoint_gradients(self) -> None:
        """Computes the denoiser's activations again in the backward pass instead of keeping them.

        Raises:
            ModelError: For a denoiser that cannot.
        """
        denoiser: Any = self.denoiser
        if not getattr(denoiser, "_supports_gradient_checkpointing", False):
            raise ModelError(
                f"--gradient-checkpointing: a {type(denoiser).__name__} has none: leave it out, and"
                " take a smaller --micro-batch-size"
            )
        denoiser.enable_gradient_checkpointing()

    def park(self, *, prompts: bool) -> None:  # noqa: B027
        """Takes what training does not use off the device, into host memory.

        Here: nothing, as a denoiser alone is all in use.

        Args:
            prompts: Whether prompts are read no more, because their conditions are known.
        """

    def drop_encoders(self) -> None:  # noqa: B027
        """Lets go of large text encoders whose prompts have been read.

        One is read from the folder again when it is asked for. Here: nothing.
        """

    def learnable(self) -> dict[str, nn.Parameter]:
        """The denoiser's tensors by name, but for those that no loss depends on."""
        return dict(self.denoiser.named_parameters())

    def rows_of(self, prompts: Sequence[str]) -> list[int]:
        """Rows of a class table that learn with the whole denoiser, one per prompt; else none."""
        return []

    @property
    @abstractmethod
    def times(self) -> int:
        """Number of diffusion times."""

    @property
    def own_sampler(self) -> str:
        """Class name of the scheduler that the base came with."""
        return type(self.scheduler).__name__

    @property
    def trial_shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of the latents of a trial (`trial.try_forward`); None for no trial.

        Here: those of small bases. A family whose larger ones take smaller latents answers itself.
        """
        return self.latent_shape if max(self.latent_shape[1:]) <= TRIAL else None

    @abstractmethod
    def encode(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images to latents: a public function of one image at a time.

        Args:
            images: uint8 [B, R, R, 3].

        Returns:
            Mean and standard deviation of the latent's posterior, float32 [B, C, h, w] each in host
            memory, so that it can be sampled anew in every draw. The deviation is zero where
            latents are pixels.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, h, w] to images, uint8 [B, R, R, 3]."""

    @abstractmethod
    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents, and what the denoiser is to predict of them.

        Args:
            latent: [R, C, h, w].
            noise: Standard normal, [R, C, h, w].
            time: int64 [R].

        Returns:
            Two tensors [R, C, h, w].
        """

    @abstractmethod
    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The denoiser's prediction [R, C, h, w] for `noisy` at `time`, given `condition`.

        Args:
            noisy: Noisy latents [R, C, h, w].
            time: Diffusion times [R].
            condition: One row for each.

        Returns:
            What `corrupt` calls the target, as the model predicts it.
        """

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """The denoiser as a sampler calls it, from any thread.

        Args:
            guidance_scale: For a family that `embeds_guidance`.

        Returns:
            denoise(latents [B, C, h, w], time, condition, memory) -> prediction float32
            [B, C, h, w], at one time of the scheduler's. `memory` is a dict of the caller's, empty
            at first and one for each condition: a family may keep in it what does not change from
            step to step.
        """

        @torch.no_grad()
        def denoise(
            latents: torch.Tensor,
            time: torch.Tensor,
            condition: Conditioning,
            memory: dict[Any, Any],
        ) -> torch.Tensor:
            with mixed_precision(self.formats.sample, latents):
                return self.predict(latents, time, condition).float()

        return denoise

    def guide(self, empty: torch.Tensor, told: torch.Tensor, scale: float) -> torch.Tensor:
        """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) of two predictions."""
        return empty + scale * (told - empty)

    @abstractmethod
    def sampler(self, name: str, steps: int) -> Any:
        """A diffusers scheduler by class name, with the base's noise schedule and `steps` steps.

        Raises:
            SfumatoError: For a scheduler that does not fit the base.
        """

    @abstractmethod
    def blocks(self) -> list[str]:
        """Full names of the denoiser's attention blocks, in the family's order."""

    @property
    @abstractmethod
    def targets(self) -> Mapping[str, Sequence[str]]:
        """Name of a set of layers -> the endings of their names.

        "attention" and "residual" are the defaults of LoRA and LoDA.
        """

    @abstractmethod
    def layer_of(self, matrix: str) -> str:
        """The layer of a matrix: one attention, one feed-forward, one residual block."""

    @abstractmethod
    def block_of(self, matrix: str) -> str:
        """The attention or residual block that a matrix belongs to."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the whole base in half precision, as a folder that `load_base` opens."""

    def as_pipeline(self) -> Any:
        """The base as a diffusers pipeline that shares its modules.

        Only for families with `adapters`.
        """
        raise NotImplementedError

    def write_lora(
        self, folder: Path, layers: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Writes LoRA `layers` (diffusers' names -> tensors) as the family's pipelines load them.

        Only for families with `adapters`.
        """
        raise NotImplementedError
