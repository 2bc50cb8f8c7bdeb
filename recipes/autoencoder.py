"""The public autoencoder: 32x32 RGB <-> 4x8x8 latents, or 64x64 <-> 4x16x16."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL


def make_autoencoder() -> AutoencoderKL:
    """A small AutoencoderKL in Stable Diffusion's layout, two halvings instead of three."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 [B, S, S] or [B, S, S, 3] -> float [B, 3, S, S] in [-1, 1]."""
    x = torch.from_numpy(images).float() / 127.5 - 1
    return x[:, None].expand(-1, 3, -1, -1) if x.ndim == 3 else x.permute(0, 3, 1, 2)


def train_autoencoder(
    images: np.ndarray,
    steps: int,
    seed: int,
    kl_weight: float = 1e-3,
    batch: int = 128,
    start: AutoencoderKL | None = None,
    learning_rate: float = 4e-3,
) -> AutoencoderKL:
    """Train on public `images`, from `start` or from scratch, and set `scaling_factor` so that
    latents have unit variance.
    """
    torch.manual_seed(seed)
    vae = (make_autoencoder() if start is None else start).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        x = to_pixels(images[rng.integers(0, len(images), batch)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        error = decoded.float() - x
        kl = 0.5 * (
            posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()
        )
        loss = error.pow(2).mean() + 0.2 * error.abs().mean() + kl_weight * kl.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(
                f"autoencoder {step}/{steps} mse {error.pow(2).mean().item():.4f} kl"
                f" {kl.mean().item():.3f}",
                flush=True,
            )
    vae.eval()
    mean, std = encode(vae, images[:4096])
    vae.register_to_config(
        scaling_factor=float(1 / (mean.float() ** 2 + std.float() ** 2).mean().sqrt())
    )
    return vae


@torch.no_grad()
def encode(
    vae: AutoencoderKL, images: np.ndarray, batch: int = 512
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and standard deviation, half precision [N, 4, S/4, S/4] each (not yet
    scaled).
    """
    means, stds = [], []
    for part in np.array_split(images, max(1, len(images) // batch)):
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(to_pixels(part)).latent_dist
        means.append(posterior.mean.half())
        stds.append(posterior.std.half())
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, images: np.ndarray) -> float:
    """Mean squared error of decode(encode(x)) in [-1, 1] units, using the posterior mean."""
    x = to_pixels(images)
    return F.mse_loss(vae.decode(vae.encode(x).latent_dist.mean).sample, x).item()
