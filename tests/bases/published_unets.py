"""Training losses of Stable Diffusion and SDXL by diffusers' parts alone, without sfumato."""

from __future__ import annotations

from typing import Any

import torch

from tests.bases.family_checks import Rows


def stable_diffusion(pipe: Any, rows: Rows) -> torch.Tensor:
    """As in diffusers' examples/text_to_image: mean squared error of the scheduler's target."""
    posterior = pipe.vae.encode(rows.pixels).latent_dist
    latents = posterior.mean + posterior.std * rows.latent_noise
    latents = latents * pipe.vae.config.scaling_factor
    ids = pipe.tokenizer(rows.prompts, padding="max_length", truncation=True, return_tensors="pt")
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    text = pipe.text_encoder(ids.input_ids).last_hidden_state
    predicted = pipe.unet(noisy, rows.time, text).sample
    target = pipe.scheduler.get_velocity(latents, rows.noise, rows.time)
    return (predicted - target).pow(2).mean((1, 2, 3))


def stable_diffusion_xl(pipe: Any, rows: Rows) -> torch.Tensor:
    """As in diffusers' examples/text_to_image/train_text_to_image_sdxl.py, with the statistics of
    latents of examples/dreambooth, and zeros for a dropped prompt, as the model was trained.
    """
    config = pipe.vae.config
    mean, std = (
        torch.tensor(v).view(1, 4, 1, 1) for v in (config.latents_mean, config.latents_std)
    )
    posterior = pipe.vae.encode(rows.pixels).latent_dist
    latents = posterior.mean + posterior.std * rows.latent_noise
    latents = (latents - mean) * config.scaling_factor / std
    text, _, pooled, _ = pipe.encode_prompt(rows.prompts, do_classifier_free_guidance=False)
    told = torch.tensor([bool(prompt) for prompt in rows.prompts]).float()
    size = rows.pixels.shape[-2:]
    sizes = torch.tensor([[*size, 0, 0, *size]]).repeat(len(told), 1)
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    predicted = pipe.unet(
        noisy,
        rows.time,
        text * told[:, None, None],
        added_cond_kwargs={"text_embeds": pooled * told[:, None], "time_ids": sizes},
    ).sample
    return (predicted - rows.noise).pow(2).mean((1, 2, 3))
