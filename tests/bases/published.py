"""Training losses of transformers as diffusers' training programs compute them, without sfumato."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.bases.family_checks import Published, Rows


def sampled_latents(vae: Any, rows: Rows) -> torch.Tensor:
    """The autoencoder's own latents of the rows' pictures, drawn with the rows' noise."""
    posterior = vae.encode(rows.pixels).latent_dist
    return posterior.mean + posterior.std * rows.latent_noise


def flow_loss(
    scheduler: Any,
    latents: torch.Tensor,
    rows: Rows,
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Squared error of the direction noise - latent, a mean per row.

    Args:
        scheduler: The pipeline's; its times run from much noise to little.
        latents: Scaled, [R, C, h, w].
        rows: Noise and times.
        predict: (noisy, times from 0 to 1,000) -> direction.
    """
    place = len(scheduler.timesteps) - 1 - rows.time
    sigma = scheduler.sigmas[place].view(-1, 1, 1, 1)
    noisy = (1.0 - sigma) * latents + sigma * rows.noise
    predicted = predict(noisy, scheduler.timesteps[place])
    return ((predicted - (rows.noise - latents)) ** 2).flatten(1).mean(1)


def stable_diffusion_3(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_sd3.py, without preconditioning and weights."""
    config = pipe.vae.config
    latents = (sampled_latents(pipe.vae, rows) - config.shift_factor) * config.scaling_factor
    text, _, pooled, _ = pipe.encode_prompt(
        rows.prompts, None, None, do_classifier_free_guidance=False
    )
    return flow_loss(
        pipe.scheduler,
        latents,
        rows,
        lambda noisy, time: pipe.transformer(
            noisy, encoder_hidden_states=text, pooled_projections=pooled, timestep=time
        ).sample,
    )


PUBLISHED: dict[str, Published] = {
    "stable_diffusion_3": stable_diffusion_3,
    "stable_diffusion_3_without_t5": stable_diffusion_3,
}
