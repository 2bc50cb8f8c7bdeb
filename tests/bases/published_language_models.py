"""Training losses and calls of the pipelines in `tiny_language_models`, without sfumato."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tests.bases.family_checks import Draw, Published, Rows, Start, draw
from tests.bases.published import flow_loss, sampled_latents


def shifted(pipe: Any, rows: Rows) -> torch.Tensor:
    """Scaled latents of a KL autoencoder with a shift."""
    config = pipe.vae.config
    return (sampled_latents(pipe.vae, rows) - config.shift_factor) * config.scaling_factor


def lumina_2(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_lumina2.py, where sigma is the share of the picture.

    Prompts that are dropped are read as the pipeline reads its negative one.
    """
    latents = shifted(pipe, rows)
    read = [pipe.encode_prompt([text], system_prompt=None)[:2] for text in rows.prompts]
    empty = pipe.encode_prompt([""], negative_prompt=[""])[2:]
    read = [each if text else empty for text, each in zip(rows.prompts, read)]
    text, mask = (torch.cat(part) for part in zip(*read))
    sigma = 1 - pipe.scheduler.sigmas[len(pipe.scheduler.timesteps) - 1 - rows.time]
    noisy = (1 - sigma)[:, None, None, None] * rows.noise + sigma[:, None, None, None] * latents
    predicted = pipe.transformer(noisy, sigma, text, mask).sample
    return ((predicted - (latents - rows.noise)) ** 2).flatten(1).mean(1)


def z_image(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_z_image.py."""
    text, _ = pipe.encode_prompt(list(rows.prompts), do_classifier_free_guidance=False)

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        pictures = list(noisy.unsqueeze(2).unbind(0))
        found = pipe.transformer(pictures, (1000 - time) / 1000, text, return_dict=False)[0]
        return -torch.stack(found).squeeze(2)

    return flow_loss(pipe.scheduler, shifted(pipe, rows), rows, predict)


def qwen_image(pipe: Any, rows: Rows) -> torch.Tensor:
    """As train_dreambooth_lora_qwen_image.py."""
    text, mask = pipe.encode_prompt(rows.prompts)
    posterior = pipe.vae.encode(rows.pixels.unsqueeze(2)).latent_dist
    drawn = posterior.mean + posterior.std * rows.latent_noise.unsqueeze(2)
    mean, std = (
        torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    latents = ((drawn - mean) / std).squeeze(2)
    count, channels, height, width = latents.shape

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        found = pipe.transformer(
            pipe._pack_latents(noisy, count, channels, height, width),
            encoder_hidden_states=text,
            encoder_hidden_states_mask=mask,
            timestep=time / 1000,
            img_shapes=[[(1, height // 2, width // 2)]] * count,
        ).sample
        factor = pipe.vae_scale_factor
        return pipe._unpack_latents(found, factor * height, factor * width, factor).squeeze(2)

    return flow_loss(pipe.scheduler, latents, rows, predict)


def prx(pipe: Any, rows: Rows) -> torch.Tensor:
    """Its authors' flow matching: their training program is not in diffusers."""
    text, mask = pipe.encode_prompt(list(rows.prompts), do_classifier_free_guidance=False)[:2]

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return pipe.transformer(noisy, time / 1000, text, mask).sample

    return flow_loss(pipe.scheduler, shifted(pipe, rows), rows, predict)


def draw_z_image(pipe: Any, start: Start) -> np.ndarray:
    """The pipeline calls by 0 what others call by 1."""
    return draw(pipe, start, guidance_scale=start.guidance_scale - 1)


def draw_qwen_image(pipe: Any, start: Start) -> np.ndarray:
    """The pipeline has another name for guidance, and does without where it is told no negative."""
    return draw(
        pipe,
        start,
        latents=pipe._pack_latents(start.latents, *start.latents.shape),
        guidance_scale=None,
        true_cfg_scale=start.guidance_scale,
        negative_prompt="",
    )


def draw_prx(pipe: Any, start: Start) -> np.ndarray:
    """One by one: under guidance the pipeline takes a single picture."""
    pictures: list[np.ndarray] = []
    for prompt, latents in zip(start.prompts, start.latents):
        one = replace(start, prompts=[prompt], latents=latents[None])
        pictures.append(draw(pipe, one, generator=None, use_resolution_binning=False))
    return np.concatenate(pictures)


@dataclass(frozen=True)
class Own:
    """What a family's own library computes: its training loss, and its pictures."""

    loss: Published
    draw: Draw = draw


OWN: dict[str, Own] = {
    "lumina_2": Own(lumina_2),
    "lumina_2_dynamic": Own(lumina_2),
    "z_image": Own(z_image, draw_z_image),
    "z_image_dynamic": Own(z_image, draw_z_image),
    "qwen_image": Own(qwen_image, draw_qwen_image),
    "prx": Own(prx, draw_prx),
}
