"""Training losses of transformers as diffusers' training programs compute them, without sfumato.

And calls of their pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.bases.family_checks import Published, Rows, Start


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
        lambda noisy, time: (
            pipe.transformer(
                noisy, encoder_hidden_states=text, pooled_projections=pooled, timestep=time
            ).sample
        ),
    )


def pixart_sigma(pipe: Any, rows: Rows) -> torch.Tensor:
    """As diffusers' training programs of PixArt: noise, the learned variance left out."""
    from diffusers import DDPMScheduler

    latents = sampled_latents(pipe.vae, rows) * pipe.vae.config.scaling_factor
    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    text, mask, _, _ = pipe.encode_prompt(rows.prompts, do_classifier_free_guidance=False)
    predicted = pipe.transformer(
        noise_scheduler.add_noise(latents, rows.noise, rows.time),
        encoder_hidden_states=text,
        encoder_attention_mask=mask,
        timestep=rows.time,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample.chunk(2, dim=1)[0]
    return ((predicted - rows.noise) ** 2).flatten(1).mean(1)


def flux(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_flux.py, with its default guidance scale and no weights."""
    config = pipe.vae.config
    latents = (sampled_latents(pipe.vae, rows) - config.shift_factor) * config.scaling_factor
    count, channels, height, width = latents.shape
    text, pooled, text_ids = pipe.encode_prompt(rows.prompts)
    ids = pipe._prepare_latent_image_ids(count, height // 2, width // 2, "cpu", torch.float32)
    embeds = pipe.transformer.config.guidance_embeds

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        predicted = pipe.transformer(
            hidden_states=pipe._pack_latents(noisy, count, channels, height, width),
            timestep=time / 1000,
            guidance=torch.full((count,), 3.5) if embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=text_ids,
            img_ids=ids,
        ).sample
        factor = pipe.vae_scale_factor
        return pipe._unpack_latents(predicted, height * factor, width * factor, factor)

    return flow_loss(pipe.scheduler, latents, rows, predict)


def sana(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_sana.py, told as its pipeline tells: dropped prompts stand alone."""
    import inspect

    from diffusers import FlowMatchEulerDiscreteScheduler

    asked = inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"]
    read = [
        pipe.encode_prompt(
            prompt, False, complex_human_instruction=asked.default if prompt else None
        )
        for prompt in rows.prompts
    ]
    text, mask = (torch.cat([each[i] for each in read]) for i in (0, 1))
    return flow_loss(
        FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config),
        pipe.vae.encode(rows.pixels).latent * pipe.vae.config.scaling_factor,
        rows,
        lambda noisy, time: (
            pipe.transformer(
                noisy, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=time
            ).sample
        ),
    )


def flux2_klein(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_flux2_klein.py: modes in patches, normalised, no weights."""
    bn, eps = pipe.vae.bn, pipe.vae.config.batch_norm_eps
    latents = pipe._patchify_latents(pipe.vae.encode(rows.pixels).latent_dist.mode())
    latents = (latents - bn.running_mean.view(1, -1, 1, 1)) / torch.sqrt(
        bn.running_var.view(1, -1, 1, 1) + eps
    )
    text, text_ids = pipe.encode_prompt(rows.prompts)
    ids = pipe._prepare_latent_ids(latents)

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        predicted = pipe.transformer(
            hidden_states=pipe._pack_latents(noisy),
            timestep=time / 1000,
            guidance=None,
            encoder_hidden_states=text,
            txt_ids=text_ids,
            img_ids=ids,
        ).sample
        return pipe._unpack_latents_with_ids(predicted, ids)

    return flow_loss(pipe.scheduler, latents, rows, predict)


def draw(pipe: Any, start: Start) -> np.ndarray:
    """Pictures of the pipeline's own sampler."""
    kind, latents = type(pipe).__name__, start.latents
    told: dict[str, Any] = {"guidance_scale": start.guidance_scale}
    factor = pipe.vae_scale_factor * (2 if "Flux2" in kind else 1)
    height, width = (factor * side for side in latents.shape[-2:])
    if kind in ("PixArtSigmaPipeline", "SanaPipeline"):
        told["use_resolution_binning"] = False
    if kind == "FluxPipeline":
        latents = pipe._pack_latents(latents, *latents.shape)
        if not pipe.transformer.config.guidance_embeds:
            told = {"true_cfg_scale": start.guidance_scale, "negative_prompt": [""] * len(latents)}
    return pipe(
        prompt=start.prompts,
        height=height,
        width=width,
        latents=latents,
        num_inference_steps=start.steps,
        output_type="np",
        **told,
    ).images


PUBLISHED: dict[str, Published] = {
    "stable_diffusion_3": stable_diffusion_3,
    "stable_diffusion_3_without_t5": stable_diffusion_3,
    "pixart_sigma": pixart_sigma,
    "flux": flux,
    "flux_schnell": flux,
    "sana": sana,
    "flux2_klein": flux2_klein,
}
