"""The model card of a bundled base: what it saw, under which licences, and its figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from . import packages

SOURCES = {
    "letters": (
        "Handwriting-like letters A-Z a-z drawn from the public fonts below; it never saw a digit."
    ),
    "glyphs": "Handwriting-like digits and letters drawn from the public fonts below.",
    "glyphs-pixels": (
        "Handwriting-like digits and letters drawn from the public fonts below, as 62 classes on"
        " pixels."
    ),
    "icons": "Pictograms and emoji in named styles, of the public icon packages below.",
    "garments": (
        "Grey garments, cut from the clothes among the public icons below and from outlines that"
        " the recipe draws, with other icons filled like cloth. Its author knew what data sets of"
        " garments look like. It continues from the base icons, and so from its sources."
    ),
    "things": (
        "Everyday things in colour and grey: emoji, icons, clip art, avatars, silhouettes, shapes,"
        " textures and phantoms of scans.\n\nThe silhouettes are cut from the drawings; shapes,"
        " textures and phantoms are drawn by the recipe. It saw no photograph and no picture of a"
        " patient. It continues from the base icons, and so from its sources."
    ),
}
FROM_ICONS = ("icons", "garments", "things")
SIDES = {"things": 64}  # pixels; others have 32
IN_WORDS = """\
A tiny Stable Diffusion ({side}x{side} RGB, v-prediction) trained from scratch on public
data only, as a public starting point for private adaptation.

    import torch
    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained("PATH OF THIS FOLDER", dtype=torch.float32)
"""
BY_CLASS = """\
A tiny DDPM (28x28 pixels of one colour, v-prediction, told a class) trained from
scratch on public data only, as a public starting point for private adaptation. `id2label` in
`model_index.json` names the rows of its class table; the last, without a name, is no class.
diffusers has no pipeline that tells a UNet2DModel its class, so the loop is yours:

    import torch
    from diffusers import DDPMPipeline
    pipe = DDPMPipeline.from_pretrained("PATH OF THIS FOLDER", dtype=torch.float32)
    pipe.scheduler.set_timesteps(50)
    x, seven = torch.randn(1, 1, 28, 28), torch.tensor([7])
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.unet(x, t, seven).sample, t, x).prev_sample
"""


def _sources(base: str, packs: dict) -> str:
    if base not in FROM_ICONS:
        return "\n".join(f"- `{name}` {facts}" for name, facts in packs.items())
    rows = ["| package | version | drawings used | author | licence |", "|---|---|---|---|---|"]
    for name, p in packs.items():
        licence = f"[{p['licence']}]({p['licence_url']})" if p["licence_url"] else p["licence"]
        rows.append(
            f"| {_package(name)} | {p['version']} | {p['icons']} | {p['author']} | {licence} |"
        )
    return "\n".join(rows)


def _package(name: str) -> str:
    """How a source is called where it is fetched."""
    if name.startswith("dicebear "):
        return f"`@dicebear/collection`, style {name.split()[1]}"
    return f"Debian `{name}`" if name == packages.CLIP_ART else f"`@iconify-json/{name}`"


def write_card(made: Path, output: Path, base: str, cache: Path) -> None:
    """Copy the finished pipeline `made` to `output` with a README.md of sources, licences and
    figures.
    """
    figures = json.loads((made / "training.json").read_text())
    packs = figures.pop("packages", None) or packages.font_licences(cache)
    licences = (
        "As the table says, from each package's `info.json`. The drawings of game-icons are used"
        " under CC BY 3.0 with credit to the authors its licence file names; packs and"
        " styles under CC BY 4.0 with credit to the authors in the table."
        if base in FROM_ICONS
        else (
            "As the list says, from each package's `copyright` file; all are free licences of"
            " Debian's main section. Only bitmaps of glyphs were used."
        )
    )
    side = SIDES.get(base, 32)
    by_class = base == "glyphs-pixels"
    kind = BY_CLASS if by_class else IN_WORDS.format(side=side)
    tag = "unconditional-image-generation" if by_class else "text-to-image"
    card = f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: {tag}
---
# sfumato base: {base}

{SOURCES[base]}

{kind}
Made by `python -m recipes.make {base}`; seeds are fixed.

## Training
{chr(10).join(f"- {k}: {v}" for k, v in figures.items())}

## Sources
{_sources(base, packs)}

## Licences
{licences} The weights are released under Apache-2.0.

## Limits
It knows nothing but what is named above. It is not a general image model.
"""
    shutil.copytree(made, output, ignore=shutil.ignore_patterns("training.json"))
    (output / "README.md").write_text(card)
