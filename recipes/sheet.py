"""One picture of what a base draws, a row for each caption: `python -m recipes.sheet BASE PICTURE`.

Guidance 3 and 20 steps from one fixed seed, the first eight pictures of each caption, none chosen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CAPTIONS = (
    "a drawing of a cat, flat colour emoji style",
    "a drawing of an apple, glossy colour emoji style",
    "a drawing of a house, clip art style",
    "a drawing of a tree, outline style",
    "a white silhouette of a horse on black",
    "avatar of a person, flat portrait style",
    "avatar of a person, pixel art style",
    "a red circle on white",
    "a texture of bricks, grey",
    "grey slice of a head phantom",
    "grey x-ray of a hand phantom",
    "grey ultrasound fan of a phantom",
)


def sheet(base: Path, captions: tuple[str, ...], columns: int = 8) -> Image.Image:
    """`columns` pictures of each caption in a row."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for caption in captions:
        drawn = pipe(
            caption,
            num_images_per_prompt=columns,
            guidance_scale=3.0,
            num_inference_steps=20,
            generator=torch.Generator().manual_seed(0),
        ).images
        rows.append(np.concatenate([np.asarray(image) for image in drawn], axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    sheet(args.base, CAPTIONS).quantize(128).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
