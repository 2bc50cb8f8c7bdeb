"""The straight line from latent to noise, and its direction, as diffusers' scheduler draws it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from sfumato import SfumatoError
from sfumato.bases.flow import FlowBase, training_sigmas


def base_with(scheduler: Any) -> Any:
    """What `FlowBase` uses of itself, with the true direction of a known pair as its denoiser."""
    base = SimpleNamespace(
        scheduler=scheduler, sigmas=training_sigmas(scheduler), family="line",
        own_sampler="FlowMatchEulerDiscreteScheduler", shift=lambda: 0.9, even_sigmas=False,
        formats=SimpleNamespace(sample=torch.float32),
    )  # fmt: skip
    base.sampling_times = lambda steps: FlowBase.sampling_times(base, steps)
    return base


@pytest.mark.parametrize("settings", [{}, {"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_the_line_is_the_schedulers_and_its_end_is_the_latent(settings: dict[str, Any]) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    base = base_with(scheduler)
    latent, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    time = torch.tensor([0, 400, 999])
    noisy, target = FlowBase.corrupt(base, latent, noise, time)
    stamps = torch.tensor([scheduler.timesteps[999 - int(t)] for t in time])
    assert torch.allclose(noisy, scheduler.scale_noise(latent, stamps, noise), atol=1e-6)
    assert torch.allclose(target, noise - latent)
    assert base.sigmas[0] > 0 and base.sigmas[-1] == 1 and (base.sigmas.diff() > 0).all()
    made = FlowBase.sampler(base, base.own_sampler, 7)
    at = noise
    for t in made.timesteps:
        at = made.step(target, t, at).prev_sample
    assert torch.allclose(at, latent, atol=1e-5)


def test_the_sampler_sees_the_share_of_noise_that_the_scheduler_means() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    base, seen = base_with(scheduler), []

    def velocity(noisy: torch.Tensor, sigma: torch.Tensor, condition: Any) -> torch.Tensor:
        seen.append(sigma)
        return noisy

    base.velocity = velocity
    made = FlowBase.sampler(base, base.own_sampler, 4)
    denoise = FlowBase.make_denoise(base)
    for t in made.timesteps:
        denoise(torch.zeros(2, 4, 2, 2), t, torch.zeros(2, 0), {})
    shares = torch.stack(seen)
    assert shares.shape == (4, 2) and torch.allclose(shares[:, 0], made.sigmas[:-1], atol=1e-6)


def test_another_scheduler_than_the_familys_is_refused() -> None:
    base = base_with(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(SfumatoError, match="--scheduler DDIMScheduler: a line base has"):
        FlowBase.sampler(base, "DDIMScheduler", 4)
