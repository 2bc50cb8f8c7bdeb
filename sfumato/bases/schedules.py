"""Noise schedules of diffusers' schedulers: corrupting latents in training, and samplers."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import SfumatoError
from .interface import Base

# Left out: one whose noise comes from a generator of its own, and one for another parametrisation.
UNFIT = {"DPMSolverSDEScheduler", "EDMEulerScheduler"}


def corrupt(
    scheduler: Any, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance-preserving corruption and its target (DDPM, arXiv 2006.11239; velocity, 2202.00512).

    Args:
        scheduler: With `alphas_cumprod` [times], on the latents' device, and the setting
            `prediction_type`.
        latent: [R, C, h, w].
        noise: Standard normal, [R, C, h, w].
        time: int64 [R].

    Returns:
        The noisy latent, and what is to be predicted (noise, velocity or latent), both
        [R, C, h, w].
    """
    alpha = scheduler.alphas_cumprod[time].view(-1, 1, 1, 1).to(latent.dtype)
    noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return noisy, alpha.sqrt() * noise - (1 - alpha).sqrt() * latent
    return noisy, latent if kind == "sample" else noise


class DiffusionBase(Base):
    """A base whose noise schedule is that of a diffusers scheduler, variance preserving.

    A diffusion time is an index of the schedule.
    """

    scheduler: Any  # the base's own; its noise schedule is the one that training uses

    def move(self, where: torch.device, *, denoiser: bool = True) -> None:
        """Puts all that computes and the noise schedule onto a device."""
        super().move(where, denoiser=denoiser)
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(where)

    @property
    def times(self) -> int:
        """How many diffusion times the schedule has."""
        return len(self.scheduler.alphas_cumprod)

    def corrupt(
        self, latent: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents and the target (noise, velocity or latent) by the base's schedule."""
        return corrupt(self.scheduler, latent, noise, time)

    def sampler(self, name: str, steps: int) -> Any:
        """A diffusers scheduler on the base's schedule."""
        return make_sampler(self.scheduler, name, steps)


def is_scheduler(name: str) -> bool:
    """Whether it is the class name of one of diffusers' schedulers."""
    import diffusers

    kind = getattr(diffusers, name, None)
    return isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)


def make_sampler(own: Any, name: str, steps: int) -> Any:
    """A scheduler by class name, configured from the base's `own`, ready for `steps` steps.

    Raises:
        SfumatoError: For a scheduler that does not fit.
    """
    fitting = {c.__name__: c for c in (type(own), *own.compatibles) if c.__name__ not in UNFIT}
    if name not in fitting:
        raise SfumatoError(f"--scheduler {name}: choose one of {', '.join(sorted(fitting))}")
    extra = {"timestep_spacing": "trailing"} if "timestep_spacing" in own.config else {}
    try:
        made = fitting[name].from_config(own.config, **extra)
    except (ImportError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SfumatoError(f"--scheduler {name} does not work with this base: {reason}") from error
    made.set_timesteps(steps)
    if "Ancestral" in name:
        # Cosine schedules begin at sigma 20,000: in single precision the first ancestral step is
        # the root of a negative.
        made.sigmas = made.sigmas.double()
    return made
