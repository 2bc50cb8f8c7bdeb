"""What a base of latents is, by the settings of its denoiser and its autoencoder."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from .checks import facts_of_files, whole
from .interface import Base, BaseInfo, Condition, Prediction
from .weights import check_settings


def latent_info(
    name: str,
    folder: Path,
    family: str,
    *,
    channels: int,
    side: int,
    factor: int,
    condition: Condition = "text",
    prediction: Prediction = "flow",
) -> BaseInfo:
    """What a base of latents is.

    Args:
        name: As the user gave it.
        folder: Of the base.
        family: Its name.
        channels: Of a latent.
        side: Of a latent.
        factor: Pixels for each number of a latent's side.
        condition: What the denoiser is told.
        prediction: Of the denoiser.
    """
    return BaseInfo(
        name=name,
        family=family,
        resolution=side * factor,
        latent_shape=(channels, side, side),
        condition=condition,
        prediction=prediction,
        **facts_of_files(folder),
    )


def info_by_denoiser(
    family: type[Base],
    name: str,
    folder: Path,
    *,
    channels: int,
    side: int,
    given: int = 4,
    blocks: str = "block_out_channels",
    condition: Condition = "text",
    prediction: Prediction = "flow",
) -> BaseInfo:
    """The same of a folder whose denoiser's settings say channels and side of a latent.

    Args:
        family: Whose `prefix` is the denoiser's folder.
        name: As the user gave it.
        folder: Of the base.
        channels: What the denoiser takes if its settings leave it out, as its class does.
        side: Likewise; 0 where they must not.
        given: What the autoencoder gives if its settings leave it out.
        blocks: Setting of the autoencoder with an entry for each level.
        condition: What the denoiser is told.
        prediction: Of the denoiser.
    """
    takes = count_of(folder, family.prefix, "in_channels", channels)
    require_channels(folder, takes, count_of(folder, "vae", "latent_channels", given))
    return latent_info(
        name,
        folder,
        family.family,
        channels=takes,
        side=count_of(folder, family.prefix, "sample_size", side),
        factor=kl_factor(folder, blocks),
        condition=condition,
        prediction=prediction,
    )


def settings_of(folder: Path, part: str) -> dict:
    """A model's settings."""
    return check_settings(folder / part / "config.json")


def count_of(folder: Path, part: str, name: str, default: int) -> int:
    """A count from a model's settings; ModelError if it is none."""
    path = folder / part / "config.json"
    return whole(path, check_settings(path), name, default)


def kl_factor(folder: Path, blocks: str = "block_out_channels", part: str = "vae") -> int:
    """Pixels for each number of a latent's side, by the autoencoder's settings."""
    stages = settings_of(folder, part).get(blocks, (64,))
    if not isinstance(stages, (list, tuple)) or not stages:
        raise ModelError(
            f"the settings of the base {folder} are not those of such models: fetch it again"
        )
    return 2 ** (len(stages) - 1)


def require_channels(folder: Path, takes: int, gives: int) -> None:
    """ModelError for a denoiser of other latents than the autoencoder's."""
    if takes != gives:
        raise ModelError(
            f"the denoiser of {folder} takes {takes} channels and its autoencoder gives {gives}:"
            " in-painting and video bases are not supported"
        )
