"""Scales of latents as diffusers' own pipelines compute them, and the way back."""

import pytest
import torch
from diffusers import AutoencoderKL

from sfumato.bases.latents import decode, encode, latent_scale
from sfumato.errors import ModelError


def autoencoder(**settings):
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(4,), latent_channels=4, norm_num_groups=2, sample_size=8, **settings
    ).eval()


def pictures():
    return torch.randint(0, 256, (3, 8, 8, 3), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


MEAN, STD = (0.5, -1.0, 2.0, 0.0), (1.5, 0.5, 2.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "heed", "published"),
    [
        ({"scaling_factor": 0.7}, {}, lambda z: z * 0.7),
        # Stable Diffusion's pipeline does not heed a shift
        ({"scaling_factor": 0.7, "shift_factor": 0.3}, {}, lambda z: z * 0.7),
        (
            {"scaling_factor": 0.7, "shift_factor": 0.3},
            {"shift": True},
            lambda z: (z - 0.3) * 0.7,
        ),
        (
            {"scaling_factor": 0.7, "latents_mean": MEAN, "latents_std": STD},
            {"per_channel": True},
            lambda z: (
                (z - torch.tensor(MEAN).view(1, 4, 1, 1)) * 0.7 / torch.tensor(STD).view(1, 4, 1, 1)
            ),
        ),
    ],
)
def test_latents_are_scaled_as_the_family_publishes_and_come_back(settings, heed, published):
    vae, images = autoencoder(**settings), pictures()
    scale = latent_scale(vae, **heed)
    mean, std = encode(vae, images.numpy(), scale=scale)
    with torch.no_grad():
        own = vae.encode(images.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
        torch.testing.assert_close(mean, published(own.mean))
        # a deviation moves with differences
        torch.testing.assert_close(std, published(own.mean + own.std) - published(own.mean))
        torch.testing.assert_close(scale.inverse(mean), own.mean)
        levels = ((vae.decode(own.mean).sample + 1) * 127.5).round().clamp(0, 255)
    drawn = torch.from_numpy(decode(vae, mean, scale=scale)).permute(0, 3, 1, 2)
    assert (drawn.float() - levels).abs().max() <= 1


def test_statistics_serve_latents_with_frames_too():
    vae = autoencoder(latents_mean=MEAN, latents_std=STD, scaling_factor=1.0)
    scale = latent_scale(vae, per_channel=True)
    z = torch.randn(2, 4, 1, 3, 3)
    torch.testing.assert_close(scale.of_mean(z)[:, :, 0], scale.of_mean(z[:, :, 0]))
    torch.testing.assert_close(scale.inverse(scale.of_mean(z)), z)


@pytest.mark.parametrize(
    "settings",
    [
        {"scaling_factor": 0.0},
        {"latents_mean": MEAN[:3], "latents_std": STD[:3]},
        {"latents_mean": MEAN, "latents_std": (1.0, 0.0, 1.0, 1.0)},
    ],
)
def test_statistics_that_do_not_fit_are_refused(settings):
    with pytest.raises(ModelError):
        latent_scale(autoencoder(**settings), per_channel=True)
