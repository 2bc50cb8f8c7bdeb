"""Public drawings of garments -> 32x32 grey pictures that look cut from cloth -> the `garments`
base, continued from `icons`.

Two sources: icons of clothes, and outlines drawn here from a few random measures (`patterns`). Each
is filled with a random grey, folds, stripes, prints and shading, since a photograph of a garment is
no flat pictogram. No photograph is used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from . import icons, packages
from .autoencoder import encode, reconstruction_error, train_autoencoder
from .denoiser import Examples, train_denoiser
from .patterns import PATTERNS, SIDE
from .saving import log, save_pipeline

SEED = 20261124
STEPS, AUTOENCODER_STEPS = 3600, 400
A_KIND, OTHERS = 7000, 30_000  # pictures of each garment, and of solid icons of anything
HELD_OUT = 512

# Words that the base `icons` knows -> names of icons, in any pack. It knows no sweater: "vest"
# stands for it.
KINDS = {
    "t shirt": r"t-?shirt(-crew|-v|-2)?|running-shirt|shirt-(sport|tank-top|20)|basketball-jersey",
    "jeans": r"jeans|trousers?|pants?|jogger-pants|pants-pockets",
    "vest": r"hoodie|long-sleeve-shirt|fur-shirt",
    "dress": r"(ample-|large-|travel-)?dress(-0\d)?",
    "coat": r"coat|lab-coat|moncler-jacket|pirate-coat|robe|jacket|kimono",
    "sandal": (
        r"(thong-|womans-)?sandals?|flip-flops|high-heels?(-0\d)?|high-heeled-shoe|heels|shoe-heel"
    ),
    "shirt": r"shirt(-button|-01)?|polo(-shirt)?|womans-clothes",
    "shoe": (
        r"(running-|mans-|sport-|converse-|flat-)?shoes?(-2|-sneaker|-cleats?|-formal)?|sneaker"
    ),
    "handbag": (
        r"(shoulder-|beach-|gym-|school-|duffel-|clutch-|travel-)bag(-big)?|hand-?bag(-simple|-0\d)?|purse(-01)?|shiny-purse"
    ),
    "boot": r"(womans-|hiking-|chelsea-|cowboy-|fur-|leather-|rubber-|ski-|walking-|metal-)?boots?",
}
_STYLE = re.compile(
    r"-(fill|filled|bold|duotone|light|thin|line|linear|outline|rounded|sharp|regular|solid)$"
)


def kind_of(name: str) -> str | None:
    """The garment that an icon's name says, whatever its style; None for anything else."""
    while _STYLE.search(name):
        name = _STYLE.sub("", name)
    return next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), None)


def silhouette(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [S, S, 3], dark on white -> (filled shape bool [S', S'], drawing within it float in [0,
    1]), both `SIDE` wide.
    """
    grey = np.asarray(
        Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC),
        np.float32,
    )
    ink = 1 - grey / 255
    return ndimage.binary_fill_holes(ndimage.binary_closing(ink > 0.25, iterations=2)), ink


def cloth(shape: np.ndarray, lines: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture uint8 [32, 32] on white: `shape` (bool [S, S]) filled like cloth, `lines` (float
    [S, S]) drawn on it.
    """
    dark = np.full(shape.shape, rng.beta(1.3, 1.0) * 0.9 + 0.08, np.float32)
    dark += _folds(rng, rng.integers(3, 7)) * rng.uniform(0, 0.25)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    if rng.random() < 0.2:  # stripes or checks
        for along in [(x,), (y,), (y,), (x, y), (x + y,)][rng.integers(0, 5)]:
            dark += rng.uniform(-0.35, 0.35) * np.sign(
                np.sin(2 * np.pi * (along * rng.uniform(2, 12) + rng.random()))
            )
    if rng.random() < 0.25:  # a print, or a part of another colour
        middle, wide, high = (
            rng.uniform(0.3, 0.7, 2),
            rng.uniform(0.08, 0.3),
            rng.uniform(0.06, 0.3),
        )
        inside = (abs(x - middle[0]) < wide) & (abs(y - middle[1]) < high)
        dark[inside] += rng.uniform(-0.6, 0.6) * _folds(rng, 12)[inside] + rng.uniform(-0.4, 0.4)
    if rng.random() < 0.2:
        dark[y > rng.uniform(0.2, 0.9)] += rng.uniform(-0.5, 0.5)
    depth = ndimage.distance_transform_edt(shape)
    dark += rng.uniform(-0.1, 0.35) * np.exp(-depth / rng.uniform(1.5, 6))
    dark += rng.uniform(-0.45, 0.45) * ndimage.gaussian_filter(lines, rng.uniform(0.5, 1.5))
    dark += rng.normal(0, rng.uniform(0, 0.12), shape.shape)
    drawn = np.where(shape, np.clip(dark, 0.04, 1), 0)
    return _fitted(drawn, shape, rng)


def _folds(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in about [-1, 1], float32 [S, S]."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _fitted(drawn: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut at the shape's edges, stretched a little, its longer side 25 to 30 of 32 pixels: uint8
    [32, 32] on white.
    """
    rows, columns = (np.flatnonzero(shape.any(axis)) for axis in (1, 0))
    part = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    high, wide = np.array(part.shape) * np.exp(rng.uniform(-0.12, 0.12, 2))
    scale = rng.uniform(25, 30) / max(high, wide)
    size = max(3, round(wide * scale)), max(3, round(high * scale))
    small = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BOX))
    canvas = np.zeros((32, 32), np.float32)
    top, left = (32 - size[1]) // 2, (32 - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return np.rint(255 * (1 - np.clip(canvas, 0, 1))).astype(np.uint8)


def make_images(drawings: dict[str, list], others: list, a_kind: int, n_others: int, seed: int):
    """`a_kind` pictures of each garment, two in five from icons and the others from patterns, then
    `n_others` of `others`.

    (uint8 [N, 32, 32], label [N]): 0 to 9 the place in `KINDS`, from 10 on the place in `others`.
    """
    rng = np.random.default_rng(seed)
    images, label = [], []
    for number, kind in enumerate(KINDS):
        for k in range(a_kind):
            own = drawings[kind]
            shape, lines = own[rng.integers(len(own))] if k % 5 < 2 else PATTERNS[kind](rng)
            images.append(cloth(shape, lines, rng))
            label.append(number)
    for number in rng.integers(0, len(others), n_others):
        images.append(cloth(*silhouette(others[number]), rng))
        label.append(10 + number)
    return np.stack(images), np.array(label)


def load_drawings(cache: Path) -> tuple[dict[str, list], dict[str, dict]]:
    """Garment -> its icons' (shape, lines), of all packs; and the packs' facts, for the card."""
    folder = packages.fetch_icons(cache, packages.ICON_PACKAGES | packages.GARMENT_PACKAGES)
    found: dict[str, list] = {kind: [] for kind in KINDS}
    facts = {}
    for pack, version in (packages.ICON_PACKAGES | packages.GARMENT_PACKAGES).items():
        data, info = (
            json.loads((folder / pack / "package" / name).read_text("utf-8"))
            for name in ("icons.json", "info.json")
        )
        used = [name for name in sorted(data["icons"]) if kind_of(name)]
        for name in used:
            found[kind_of(name)].append(silhouette(icons.render(data, name)))
        facts[pack] = icons.pack_facts(info, version, len(used))
    return {kind: [one for one in own if one[0].sum() > 200] for kind, own in found.items()}, facts


def make_garments(work: Path, cache: Path, start: Path) -> Path:
    """The base of grey garments: `work/garments`, continued from the icons base in the folder
    `start`.
    """
    from diffusers import StableDiffusionPipeline

    done = work / "garments"
    if (done / "model_index.json").exists():
        return done
    torch.manual_seed(SEED)
    drawings, facts = load_drawings(cache)
    log(", ".join(f"{len(own)} of {kind}" for kind, own in drawings.items()))
    known, pictures, _ = icons.load_icons(cache)
    solid = [
        k for k, icon in enumerate(known) if icon.style.endswith(("filled", "silhouette", "emoji"))
    ]
    solid = [k for k in solid if silhouette(pictures[k])[0].sum() > 200]
    images, label = make_images(drawings, [pictures[k] for k in solid], A_KIND, OTHERS, SEED)
    garment = label < len(KINDS)
    np.savez_compressed(
        cache / "garments.npz", images=images[garment], labels=label[garment]
    )  # public data of their own
    log(f"drew {len(images)} pictures")
    pipe = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32)
    order = np.random.default_rng(SEED).permutation(len(images))
    vae = train_autoencoder(images[order[HELD_OUT:]], AUTOENCODER_STEPS, SEED, start=pipe.vae)
    mean, std = encode(vae, images)
    scale = vae.config.scaling_factor
    table = [icons.icon_captions(kind, "filled") for kind in KINDS]
    table += [icons.icon_captions(known[k].subject, known[k].style) for k in solid]
    unet, text, figures = train_denoiser(
        pipe.unet.train(),
        pipe.text_encoder.train(),
        pipe.tokenizer,
        Examples(mean * scale, std * scale, label, table),
        minutes=240,
        max_steps=STEPS,
        seed=SEED,
        learning_rate=1e-3,
    )
    for pack, used in Counter(known[k].pack for k in solid if not kind_of(known[k].name)).items():
        facts[pack]["icons"] += used
    figures |= {
        "continues": "the base icons, which continues from letters",
        "pictures": len(images),
        "icons_of_garments": {kind: len(own) for kind, own in drawings.items()},
        "reconstruction_mse": round(reconstruction_error(vae, images[order[:HELD_OUT]]), 4),
        "packages": facts,
    }
    save_pipeline(done, unet, vae, text, pipe.tokenizer)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done
