"""Public clip art and avatars as 64-pixel drawings with captions, for the base `things`."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from . import packages
from .icons import SIDE, SUBJECT_WORDS, Icon, rasterize

CLIP_ART_A_FOLDER = 160  # so that no folder of arrows or buttons outweighs the others
AVATARS_A_STYLE = 500
# Free for any use with credit (CC BY 4.0) or without (CC0); each style's own words for a caption.
AVATARS = {
    "adventurer": "adventurer",
    "bigEars": "big ears",
    "bigSmile": "big smile",
    "croodles": "doodle",
    "dylan": "round",
    "funEmoji": "fun emoji",
    "lorelei": "ink",
    "micah": "flat colour",
    "miniavs": "small figure",
    "notionists": "black and white",
    "openPeeps": "hand drawn",
    "personas": "flat portrait",
    "pixelArt": "pixel art",
    "thumbs": "thumb",
    "toonHead": "cartoon",
}
_BACKGROUNDS = ["ffffff", "ffffff", "b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf", "222222"]
_NODE = """
import { createAvatar } from '@dicebear/core';
import * as all from '@dicebear/collection';
const [names, count, size, colours] = JSON.parse(process.argv[2]);
for (const name of names) {
  const meta = all[name].meta;
  console.log(JSON.stringify([name, {licence: meta.license.name, author: meta.creator}]));
  for (let i = 0; i < count; i++) {
    const options = {seed: name + i, size: size, backgroundColor: [colours[i % colours.length]]};
    console.log(JSON.stringify([name, createAvatar(all[name], options).toString()]));
  }
}
"""


def on_white(file: Path) -> np.ndarray | None:
    """A picture of any size in the middle of a white square: uint8 [64, 64, 3]; None if it cannot
    be read or is almost empty or far from square.
    """
    try:
        drawing = Image.open(file).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    wide, high = drawing.size
    if not 1 / 3 <= wide / high <= 3 or max(wide, high) < SIDE // 2:
        return None
    scale = SIDE / max(wide, high)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    # Premultiplied, or transparent pixels would colour the edges.
    drawing = drawing.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SIDE, SIDE), "white")
    square.alpha_composite(drawing, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    picture = np.asarray(square.convert("RGB"))
    return picture if (picture < 224).any(2).mean() > 0.02 else None


def clip_art_subject(path: Path, known: set[str]) -> str:
    """What a clip art's path says of it: the words of its name that are `known`, else its folder.

    A name holds its artist's too, which no icon is called.
    """
    words = [w for w in re.findall(r"[a-z]+", path.stem.lower()) if len(w) > 2 and w in known]
    words = list(dict.fromkeys(words))[:SUBJECT_WORDS]
    return " ".join(words or re.findall(r"[a-z]+", path.parent.name.lower())[:SUBJECT_WORDS])


def load_clip_art(cache: Path, known: set[str]) -> tuple[list[Icon], np.ndarray, dict]:
    """(drawings, pictures uint8 [N, 64, 64, 3], facts for the card); `known` are words of icons."""
    root = packages.fetch_clip_art(cache)
    drawings, pictures, used = [], [], {}
    for file in usable_clip_art(root):
        path = file.relative_to(root)
        folder = path.parent.as_posix()
        if used.get(folder, 0) >= CLIP_ART_A_FOLDER:
            continue
        picture = on_white(file)
        if picture is None:
            continue
        used[folder] = used.get(folder, 0) + 1
        subject = clip_art_subject(path, known)
        drawings.append(Icon(packages.CLIP_ART, path.as_posix(), subject, "clip art"))
        pictures.append(picture)
    (archive,) = cache.glob(f"{packages.CLIP_ART}_*.deb")
    facts = {
        "version": archive.name.split("_")[1].replace("%3a", ":"),
        "icons": len(drawings),
        "licence": "public domain",
        "licence_url": "",
        "author": "the artists of the Open Clip Art Library",
    }
    return drawings, np.stack(pictures), facts


def usable_clip_art(root: Path) -> list[Path]:
    """The files that a base may see: none of a reserved folder, and no copy of one of these, by its
    bytes or its name, in any other; logos are other people's trademarks.
    """
    files = sorted(root.rglob("*.png"))
    parts = {file: f"{file.relative_to(root).as_posix()}" for file in files}
    folders = tuple(f"{folder}/" for folder in packages.RESERVED_CLIP_ART)
    kept = [file for file in files if parts[file].startswith(folders)]
    names = {file.name for file in kept}
    contents = {hashlib.sha256(file.read_bytes()).digest() for file in kept}
    return [
        file
        for file in files
        if file.name not in names
        and not parts[file].startswith((*folders, "logos/"))
        and hashlib.sha256(file.read_bytes()).digest() not in contents
    ]


def load_avatars(cache: Path) -> tuple[list[Icon], np.ndarray, dict[str, dict]]:
    """(drawings, pictures uint8 [N, 64, 64, 3], facts of each style for the card)."""
    folder = packages.fetch_avatars(cache)
    (folder / "draw.mjs").write_text(_NODE)
    asked = json.dumps([list(AVATARS), AVATARS_A_STYLE, SIDE, _BACKGROUNDS])
    said = subprocess.run(
        ["node", "draw.mjs", asked], cwd=folder, check=True, capture_output=True, text=True
    )
    drawings, pictures, facts = [], [], {}
    for name, value in map(json.loads, said.stdout.splitlines()):
        if isinstance(value, dict):
            version = packages.AVATAR_PACKAGES["@dicebear/collection"]
            facts[name] = {"version": version, "icons": AVATARS_A_STYLE, "licence_url": "", **value}
            continue
        subject = "face" if name == "funEmoji" else "person"
        drawings.append(Icon(name, str(len(drawings)), subject, f"{AVATARS[name]} avatar"))
        pictures.append(rasterize(value))
    return drawings, np.stack(pictures), facts
