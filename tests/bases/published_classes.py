"""Training losses and pictures of bases that are told classes or nothing, by diffusers alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from tests.bases.family_checks import Rows, Start

NULL = 1000  # row of DiT's table for no class


def rows_of_table(pipe: Any, prompts: list[str]) -> Any:
    """Class labels of prompts in plain diffusers; what stands for no class is put into its table:
    the null row, or the mean of all.
    """
    if pipe.unet.class_embedding is None:
        return None
    index = json.loads((pipe.config["_name_or_path"] / "model_index.json").read_text())
    count = pipe.unet.config.num_class_embeds
    names = index.get("id2label", {str(i): f"class{i}" for i in range(count)})
    found = {name.split(",")[0]: int(row) for row, name in names.items()}
    if "" not in found:
        table = pipe.unet.class_embedding.weight.data[:count]
        pipe.unet.class_embedding.weight.data = torch.cat([table, table.mean(0, keepdim=True)])
        found[""] = count
    return torch.tensor([found[prompt] for prompt in prompts])


def unet2d(pipe: Any, rows: Rows) -> torch.Tensor:
    """As in diffusers' examples/unconditional_image_generation; v as its text-to-image's."""
    latents = rows.pixels
    if hasattr(pipe, "vqvae"):
        found = pipe.vqvae.encode(rows.pixels)
        if hasattr(found, "latents"):
            latents = found.latents * pipe.vqvae.config.scaling_factor
        else:
            posterior = found.latent_dist
            latents = posterior.mean + posterior.std * rows.latent_noise
            latents = latents * pipe.vqvae.config.scaling_factor
    elif pipe.unet.config.in_channels == 1:
        share = torch.tensor([0.299, 0.587, 0.114])
        latents = torch.einsum("rchw,c->rhw", rows.pixels, share)[:, None]
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    told = rows_of_table(pipe, rows.prompts)
    predicted = pipe.unet(noisy, rows.time, told).sample
    kind = pipe.scheduler.config.prediction_type
    target = {
        "epsilon": rows.noise,
        "sample": latents,
        "v_prediction": pipe.scheduler.get_velocity(latents, rows.noise, rows.time),
    }[kind]
    return (predicted - target).pow(2).mean((1, 2, 3))


def draw_unet2d(pipe: Any, start: Start) -> np.ndarray:
    """The pipeline itself; one that is told classes has none in diffusers, so its loop is here."""
    if pipe.unet.class_embedding is None:
        # LDMPipeline hands no generator to its scheduler, and these take none
        drawn = pipe(
            len(start.prompts), generator=start.fresh, num_inference_steps=start.steps,
            output_type="np",
        ).images  # fmt: skip
        return np.repeat(drawn, 3, -1) if drawn.shape[-1] == 1 else drawn
    told, empty = (
        rows_of_table(pipe, names) for names in (start.prompts, [""] * len(start.prompts))
    )
    x = start.latents
    extra = {"generator": start.generators} if "DDPM" in type(pipe.scheduler).__name__ else {}
    for t in pipe.scheduler.timesteps:
        predicted = pipe.unet(x, t, told).sample
        if start.guidance_scale != 1:
            none = pipe.unet(x, t, empty).sample
            predicted = none + start.guidance_scale * (predicted - none)
        x = pipe.scheduler.step(predicted, t, x, **extra).prev_sample
    if hasattr(pipe, "vqvae"):
        x = pipe.vqvae.decode(x / pipe.vqvae.config.scaling_factor).sample
    return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def ids_of(pipe: Any, prompts: list[str]) -> list[int]:
    """Class ids as diffusers' own pipeline finds them in the names of its index."""
    return [pipe.get_label_ids([prompt])[0] if prompt else NULL for prompt in prompts]


def dit(pipe: Any, rows: Rows) -> torch.Tensor:
    """The simple loss of section 3.1 (as in DiT's diffusion code); of the eight channels the first
    four are the noise.
    """
    posterior = pipe.vae.encode(rows.pixels).latent_dist
    latents = posterior.mean + posterior.std * rows.latent_noise
    latents = latents * pipe.vae.config.scaling_factor
    noisy = pipe.scheduler.add_noise(latents, rows.noise, rows.time)
    told = torch.tensor(ids_of(pipe, rows.prompts))
    predicted = pipe.transformer(noisy, rows.time, told).sample
    return (predicted[:, :4] - rows.noise).pow(2).mean((1, 2, 3))


def draw_dit(pipe: Any, start: Start) -> np.ndarray:
    """Pictures of the pipeline itself."""
    return pipe(
        ids_of(pipe, start.prompts),
        guidance_scale=start.guidance_scale,
        generator=start.fresh,
        num_inference_steps=start.steps,
        output_type="np",
    ).images
