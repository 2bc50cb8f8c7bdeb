"""Hashes of the drawings that a bundled base was trained on, for the base's folder: `python -m
recipes.known things`.

`sfumato inspect --base things` compares private pictures with them. Needs what `recipes.make`
needs; trains nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sfumato.bases import bundled_bases
from sfumato.records.looks import KNOWN, save_known

from . import drawings, icons, packages, things
from .saving import log


def icon_drawings(cache: Path) -> np.ndarray:
    """The drawings that the base icons has seen, uint8 [N, 64, 64, 3]."""
    known, pictures, _ = icons.load_icons(cache)
    _, index = icons.make_images(known, pictures, icons.PICTURES_A_PACK, icons.SEED)
    return pictures[np.unique(index)]


def thing_drawings(cache: Path) -> np.ndarray:
    """The drawings of others that the base things has seen: icons, emoji, clip art, avatars.

    Its shapes, textures and phantoms are drawn by the recipe from random numbers, and its grey
    pictures are cut from these drawings.
    """
    packs = packages.ICON_PACKAGES | packages.COLOUR_PACKAGES
    known, pictures, _ = icons.load_icons(cache, packs, "things-icons.npz")
    coloured = things.in_colour(known)
    seen = []
    for chosen, each in ((coloured, things.COLOUR_A_PACK), (~coloured, things.OTHERS_A_PACK)):
        own = [icon for icon, wanted in zip(known, chosen) if wanted]
        _, index = icons.make_images(own, pictures[chosen], each, things.SEED, icons.SIDE)
        seen.append(pictures[chosen][np.unique(index)])
    words = {word for icon in known for word in icon.subject.split()}
    _, clips, _ = drawings.load_clip_art(cache, words)
    _, faces, _ = drawings.load_avatars(cache)
    return np.concatenate([*seen, clips, faces])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", choices=["icons", "things"])
    parser.add_argument(
        "-o", "--output", type=Path, help=f"folder for {KNOWN} (default: the bundled base's)"
    )
    parser.add_argument("--work", type=Path, default=Path("build/recipes"), help="as recipes.make")
    args = parser.parse_args()
    cache = args.work / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    pictures = {"icons": icon_drawings, "things": thing_drawings}[args.base](cache)
    folder = args.output or bundled_bases()[args.base]
    kept = save_known(folder / KNOWN, pictures)
    log(f"{len(pictures)} drawings, {kept} different hashes in {folder / KNOWN}")


if __name__ == "__main__":
    main()
