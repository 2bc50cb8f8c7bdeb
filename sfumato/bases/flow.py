"""Rectified flow: latents and noise are mixed on a straight line, and its direction is predicted.

Flow matching (Lipman et al., arXiv 2210.02747), rectified flow (Liu et al., 2209.03003), and as
text-to-image models are trained with it (Esser et al., 2403.03206).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from ..compute.precision import mixed_precision
from ..errors import ModelError, SfumatoError
from .conditioning import Conditioning
from .interface import Base, Denoise


def training_sigmas(scheduler: Any) -> torch.Tensor:
    """Share of noise at each training time, float32 [times], rising.

    A shift that does not depend on the picture's size is in them, as in diffusers' training
    programs; one that does (`use_dynamic_shifting`) acts on sampling alone.
    """
    return scheduler.sigmas[: scheduler.config.num_train_timesteps].flip(0).float().clone()


def renormalised(guided: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """`guided` with the length of `told` along the last axis (Lin et al., arXiv 2305.08891)."""
    length = torch.linalg.vector_norm(told, dim=-1, keepdim=True)
    return guided * (length / torch.linalg.vector_norm(guided, dim=-1, keepdim=True))


class FlowBase(Base):
    """A base whose denoiser predicts the direction from latent to noise, on the straight line.

    A diffusion time is an index of `sigmas`, the share of noise. A family answers `velocity`; one
    whose denoiser counts time from noise to picture turns time and sign around there.
    """

    scheduler: Any
    sigmas: torch.Tensor  # [times], on the denoiser's device
    default_sampler: ClassVar[str] = "FlowMatchEulerDiscreteScheduler"
    # Whether the family's pipeline gives its scheduler even shares of noise, from 1 to 1 / steps.
    even_sigmas: ClassVar[bool] = False

    @abstractmethod
    def velocity(
        self, noisy: torch.Tensor, sigma: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """Predicted noise - latent, [R, C, h, w].

        Args:
            noisy: [R, C, h, w].
            sigma: Share of noise of each row, float32 [R], from 0 to 1.
            condition: One row for each.
        """

    @property
    def times(self) -> int:
        """How many training times there are."""
        return len(self.sigmas)

    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The point between latent and noise, and the direction noise - latent."""
        sigma = self.sigmas[time].view(-1, 1, 1, 1).to(latent.dtype)
        return (1 - sigma) * latent + sigma * noise, noise - latent

    def predict(
        self, noisy: torch.Tensor, time: torch.Tensor, condition: Conditioning
    ) -> torch.Tensor:
        """The direction at training times int64 [R]."""
        return self.velocity(noisy, self.sigmas[time], condition)

    def make_denoise(self, guidance_scale: float = 1.0) -> Denoise:
        """The direction at a scheduler's own times, which run from 1,000 to 0."""
        counted = self.scheduler.config.num_train_timesteps

        @torch.no_grad()
        def denoise(
            latents: torch.Tensor, time: torch.Tensor, condition: Conditioning, memory: dict
        ) -> torch.Tensor:
            sigma = (time / counted).to(latents).expand(len(latents))
            with mixed_precision(self.formats.sample, latents):
                return self.velocity(latents, sigma, condition).float()

        return denoise

    def sampling_times(self, steps: int) -> dict[str, Any]:
        """What `set_timesteps` of the scheduler is given, as the family's pipeline does."""
        sigmas = np.linspace(1.0, 1 / steps, steps)
        if self.scheduler.config.get("use_dynamic_shifting", False):
            return {"sigmas": sigmas, "mu": self.shift()}
        return {"sigmas": sigmas} if self.even_sigmas else {"num_inference_steps": steps}

    def shift(self) -> float:
        """The dynamic shift `mu` for pictures of the base's size, where the scheduler has one."""
        raise ModelError(f"a {self.family} base has no rule for use_dynamic_shifting")

    def sampler(self, name: str, steps: int) -> Any:
        """The family's own scheduler, ready for `steps` steps.

        Raises:
            SfumatoError: For any other.
        """
        if name != self.own_sampler:
            raise SfumatoError(f"--scheduler {name}: a {self.family} base has {self.own_sampler}")
        made = type(self.scheduler).from_config(self.scheduler.config)
        made.set_timesteps(**self.sampling_times(steps))
        return made
