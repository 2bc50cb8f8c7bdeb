"""No public model: a tiny pipeline of random numbers, for owners of images that none has seen.

A class-conditional DDPM (Ho et al., arXiv 2006.11239) on pixels, in the diffusers format, small
enough that DP-SGD's noise on all its numbers can be borne. It follows from its name alone, so it is
never stored; every private class gets a row of its own in its table.
"""

# diffusers says less than it takes.
# pyright: reportArgumentType=false

from __future__ import annotations

import json
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from ..compute.device import seeded
from ..errors import SfumatoError
from .checks import INDEX_FILE
from .classes import NAMES

NAME, SIZE = "none", (28, 1)  # side and channels of the plain name
SEED = 20261130
WIDTHS = (16, 32)  # of the two finest levels; the last goes on
LOWEST = 8  # side of the coarsest level, at most
PROPOSED = ("none:28x28x1", "none:32x32x3", "none:64x64x3")


def scratch_name(name: str | Path) -> str | None:
    """The whole name of a base of random numbers; None for every other base.

    SfumatoError for a size that there is none of.
    """
    text = str(name)
    if text == NAME:
        side, channels = SIZE
    elif not text.startswith(f"{NAME}:"):
        return None
    else:
        found = re.fullmatch(rf"{NAME}:(\d{{1,3}})x(\d{{1,3}})x(\d)", text)
        height, width, channels = map(int, found.groups()) if found else (0, 1, 0)
        side = height if height == width and channels in (1, 3) else 0
    if not 8 <= side <= 128 or side % 2 ** (len(widths(side)) - 1):
        raise SfumatoError(
            f"--base {text}: write none, or none:SIDExSIDExCHANNELS with a side of 8 to 128 that"
            " halves to 8 or less and 1 or 3 channels, such as"
            f" {', '.join(PROPOSED)}"
        )
    return f"{NAME}:{side}x{side}x{channels}"


def widths(side: int) -> tuple[int, ...]:
    """Channels of each level: as many levels as it takes until the last is small."""
    levels = 2
    while side / 2 ** (levels - 1) > LOWEST and levels < 5:
        levels += 1
    return WIDTHS[:1] + WIDTHS[1:] * (levels - 1)


@lru_cache(maxsize=1)
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sfumato-none-")


def scratch_folder(name: str) -> Path:
    """The pipeline of a whole name, in a folder of this process."""
    folder = Path(_place().name) / name.replace(":", "-")
    if not folder.exists():
        part = folder.with_name(f".{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        _, size = name.split(":")
        side, _, channels = map(int, size.split("x"))
        write_scratch(part, side, channels)
        part.rename(folder)
    return folder


def write_scratch(folder: Path, side: int, channels: int) -> None:
    """Writes a DDPMPipeline of random numbers: the same ones for the same size."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    levels = widths(side)
    plain = len(levels) - 1
    with seeded(SEED):
        unet = UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=levels,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            norm_num_groups=8,
            attention_head_dim=16,
            num_class_embeds=2,
        )
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=True)
    index = folder / INDEX_FILE
    # a class of no picture, from whose row all private classes start, and the null class
    facts = json.loads(index.read_text("utf-8")) | {NAMES: {"0": "nothing", "1": ""}}
    index.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
