"""Public icon packs -> 32x32 RGB pictures whose captions name subject and style -> the `icons`
base.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import captions, packages
from .autoencoder import encode, reconstruction_error, train_autoencoder
from .denoiser import Examples, train_denoiser
from .saving import log, save_pipeline

SEED = 20261123
ICONS_STEPS, AUTOENCODER_STEPS = 3000, 350
ICONS_A_PACK = 4000  # at most; keeps rendering near a minute on one core
PICTURES_A_PACK = 9000  # every pack weighs the same in training, however many icons it has
SUBJECT_WORDS = 4  # with the longest style this makes 14 tokens of 16
WORD_COUNT = 3  # a word carried by fewer drawings cannot be learnt, and its icons are left out
SIDE, MARGIN = 64, 6  # rendered side, and white border that leaves room to shift, pixels

# Style of an icon without a suffix, then of each suffix, as its pack's own documentation names
# them.
STYLES = {
    "ph": (
        "outline",
        {
            "bold": "bold outline",
            "light": "light outline",
            "thin": "thin outline",
            "fill": "filled",
            "duotone": "duotone",
        },
    ),
    "material-symbols": (
        "filled",
        {
            "outline-rounded": "rounded outline",
            "outline-sharp": "sharp outline",
            "outline": "outline",
            "rounded": "rounded filled",
            "sharp": "sharp filled",
        },
    ),
    "tabler": ("outline", {"filled": "filled"}),
    "lucide": ("outline", {}),
    "game-icons": ("silhouette", {}),
    "fluent-emoji-high-contrast": ("high contrast emoji", {}),
    "fluent-emoji-flat": ("flat colour emoji", {}),
    "noto": ("colour emoji", {}),
    # of the base things only
    "emojione": ("bright colour emoji", {}),
    "flat-color-icons": ("flat colour", {}),
    "fluent-emoji": ("glossy colour emoji", {}),
    "noto-v1": ("round colour emoji", {}),
    "streamline-emojis": ("outlined colour emoji", {}),
    "streamline-ultimate-color": ("outlined colour", {}),
}
_SKIN = re.compile(r"-(light|medium-light|medium|medium-dark|dark)(-skin-tone)?$")
_MEANINGLESS = {"alt", "logo", "variant"}


@dataclass(frozen=True)
class Icon:
    """One drawing: `name` in `pack`, and what its caption says about it."""

    pack: str
    name: str
    subject: str
    style: str


def describe(pack: str, name: str, known: set[str]) -> tuple[str, str]:
    """(subject, style) of an icon; a suffix is one of style only where `known` has the name without
    it.
    """
    style, suffixes = STYLES[pack]
    for suffix, meaning in suffixes.items():
        stem = name.removesuffix(f"-{suffix}")
        if stem != name and stem in known:
            name, style = stem, meaning
            break
    words = [w for w in name.split("-") if w.isascii() and w.isalpha() and w not in _MEANINGLESS]
    return " ".join(words), style


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def icon_captions(subject: str, style: str) -> list[str]:
    """Four captions of one icon, the commonest first."""
    return [
        f"icon of {article(subject)} {subject}, {style} style",
        f"{subject}, {style} style",
        f"icon of {article(subject)} {subject}",
        f"icon, {style} style",
    ]


def _left_out(pack: str, name: str, known: set[str]) -> bool:
    """Skin tones repeat a drawing; brand marks are other people's trademarks."""
    plain = _SKIN.sub("", name)
    skin = pack in ("fluent-emoji", "fluent-emoji-flat") and plain != name and plain in known
    if "skin-tone" in name or skin:
        return True
    return name.startswith("brand-") or "-logo" in name


def select(icons: dict[str, set[str]], aliases: dict[str, set[str]]) -> list[Icon]:
    """The icons to draw: subjects of one to four words, each word carried by `WORD_COUNT` drawings
    or more.
    """
    found = []
    for pack in sorted(icons):
        known = icons[pack] | aliases[pack]
        for name in sorted(icons[pack]):
            if not _left_out(pack, name, known):
                found.append(Icon(pack, name, *describe(pack, name, known)))
    # Counted over (pack, subject), so that six weights of one drawing are one.
    drawings = {(i.pack, i.subject) for i in found}
    count = Counter(word for _, subject in drawings for word in set(subject.split()))
    common = {word for word, n in count.items() if n >= WORD_COUNT}
    rng = np.random.default_rng(SEED)
    chosen = []
    for pack in sorted(icons):
        usable = [i for i in found if i.pack == pack and _usable(i.subject, common)]
        keep = np.sort(rng.permutation(len(usable))[:ICONS_A_PACK])
        chosen += [usable[k] for k in keep]
    return chosen


def _usable(subject: str, common: set[str]) -> bool:
    words = subject.split()
    return 0 < len(words) <= SUBJECT_WORDS and common.issuperset(words)


def _read_packs(cache: Path, wanted: dict[str, str]) -> dict[str, tuple[dict, dict]]:
    """(icons.json, info.json) of every pack of `wanted`."""
    folder = packages.fetch_icons(cache, wanted)
    names = ("icons.json", "info.json")
    return {
        pack: tuple(
            json.loads((folder / pack / "package" / n).read_text(encoding="utf-8")) for n in names
        )
        for pack in wanted
    }


def render(pack: dict, name: str) -> np.ndarray:
    """One icon of an `icons.json`, black where the pack says currentColor, on white: uint8 [64, 64,
    3].
    """
    icon = pack["icons"][name]
    left, top, width, height = (
        icon.get(k, pack.get(k, default))
        for k, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return rasterize(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">'
        f"{icon['body'].replace('currentColor', '#000')}</svg>"
    )


def rasterize(svg: str) -> np.ndarray:
    """A drawing that is `SIDE` pixels wide and high, on white: uint8 [64, 64, 3]."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(BytesIO(bytes(png))).convert("RGB"))


def load_icons(
    cache: Path, wanted: dict[str, str] | None = None, kept: str = "icons.npz"
) -> tuple[list[Icon], np.ndarray, dict[str, dict]]:
    """(icons, pictures uint8 [N, 64, 64, 3], facts of each pack) of the packs `wanted`, by default
    those of the base icons; pictures are kept in `cache`, in the file `kept`.
    """
    wanted = wanted or packages.ICON_PACKAGES
    packs = _read_packs(cache, wanted)
    chosen = select(
        {p: set(data["icons"]) for p, (data, _) in packs.items()},
        {p: set(data.get("aliases", {})) for p, (data, _) in packs.items()},
    )
    store = cache / kept
    keys = np.array([f"{i.pack}:{i.name}" for i in chosen])
    stored = np.load(store) if store.exists() else None
    if stored is not None and np.array_equal(stored["keys"], keys):
        pictures = stored["pictures"]
    else:
        pictures = np.stack([render(packs[i.pack][0], i.name) for i in chosen])
        np.savez_compressed(store, keys=keys, pictures=pictures)
    drawn = (pictures < 224).any((1, 2, 3))  # an empty drawing teaches nothing
    icons = [icon for icon, inked in zip(chosen, drawn) if inked]
    count = Counter(i.pack for i in icons)
    facts = {pack: pack_facts(info, wanted[pack], count[pack]) for pack, (_, info) in packs.items()}
    return icons, pictures[drawn], facts


def pack_facts(info: dict, version: str, used: int) -> dict:
    """What a card says of a pack, from its `info.json`."""
    return {
        "version": version,
        "icons": used,
        "licence": info["license"]["spdx"],
        "licence_url": info["license"].get("url", ""),
        "author": info["author"]["name"],
    }


def draw(picture: np.ndarray, zoom: float, x: float, y: float, side: int = 32) -> np.ndarray:
    """uint8 [64, 64, 3] -> [side, side, 3] by Lanczos; the frame is `zoom` >= 1 icons wide and
    never cuts the icon.

    `x`, `y` in [0, 1] say where in the frame's spare room the icon stands; 0.5 is the middle.
    Nothing is mirrored, because some icons hold text.
    """
    padded = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 255, np.uint8)
    padded[MARGIN:-MARGIN, MARGIN:-MARGIN] = picture
    spare = SIDE * (zoom - 1)
    left, top = MARGIN - spare * x, MARGIN - spare * y
    box = (left, top, left + SIDE * zoom, top + SIDE * zoom)
    small = Image.fromarray(padded).resize((side, side), Image.Resampling.LANCZOS, box=box)
    return np.asarray(small)


def make_images(
    icons: list[Icon], pictures: np.ndarray, per_pack: int, seed: int, side: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """`per_pack` lightly scaled and shifted pictures of each pack, shuffled: (uint8 [N, side, side,
    3], icon [N]).
    """
    rng = np.random.default_rng(seed)
    pack = np.array([i.pack for i in icons])
    index = []
    for name in sorted(set(pack)):
        own = np.flatnonzero(pack == name)
        # Every icon equally often, the remainder by lot.
        rounds = [rng.permutation(own) for _ in range(-(-per_pack // len(own)))]
        index.append(np.concatenate(rounds)[:per_pack])
    index = rng.permutation(np.concatenate(index))
    # One picture in three stands as its pack drew it.
    zoom = np.where(
        rng.random(len(index)) < 1 / 3, 1.0, rng.uniform(1.0, 1 + MARGIN / SIDE, len(index))
    )
    place = rng.random((len(index), 2))
    images = np.stack(
        [draw(pictures[i], z, x, y, side) for i, z, (x, y) in zip(index, zoom, place)]
    )
    return images, index


def held_out_subjects(icons: list[Icon], share: float = 0.03) -> np.ndarray:
    """bool [N]: icons whose subject the autoencoder never sees, in any pack or style."""
    subjects = sorted({i.subject for i in icons})
    rng = np.random.default_rng(SEED + 1)
    chosen = {subjects[k] for k in rng.permutation(len(subjects))[: round(share * len(subjects))]}
    return np.array([i.subject in chosen for i in icons])


def make_icons(work: Path, cache: Path, letters: Path) -> Path:
    """The base of pictograms and emoji: `work/icons`, a pipeline folder with `training.json` beside
    it.

    Autoencoder and denoiser continue from the `letters` base, which halves the time to usable
    strokes.
    """
    from diffusers import StableDiffusionPipeline

    done = work / "icons"
    if (done / "model_index.json").exists():
        return done
    torch.manual_seed(SEED)
    icons, pictures, facts = load_icons(cache)
    log(f"{len(icons)} icons of {len(facts)} packs")
    images, index = make_images(icons, pictures, PICTURES_A_PACK, SEED)
    log(f"drew {len(images)} pictures")
    start = StableDiffusionPipeline.from_pretrained(letters, dtype=torch.float32)
    vae, errors = _autoencoder(
        work / "icons-autoencoder", start.vae, icons, pictures, images, index
    )
    mean, std = encode(vae, images)
    scale = vae.config.scaling_factor
    table = [icon_captions(i.subject, i.style) for i in icons]
    examples = Examples(mean * scale, std * scale, index, table)
    tokenizer = captions.make_tokenizer(
        sorted({c for row in table for c in row}), work / "icons-tokenizer", 16
    )
    log(f"encoded; {len(tokenizer)} tokens")
    unet, text, figures = train_denoiser(
        start.unet.train(),
        captions.make_text_encoder(tokenizer),
        tokenizer,
        examples,
        minutes=80,
        max_steps=ICONS_STEPS,
        seed=SEED,
    )
    figures |= {
        "pictures": len(images),
        "subject_words": len({w for i in icons for w in i.subject.split()}),
        "parameters": sum(p.numel() for part in (unet, vae, text) for p in part.parameters()),
        "reconstruction_mse_held_out_subjects": errors,
        "packages": facts,
    }
    save_pipeline(done, unet, vae, text, tokenizer)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done


def _autoencoder(
    store: Path,
    start,
    icons: list[Icon],
    pictures: np.ndarray,
    images: np.ndarray,
    index: np.ndarray,
):
    """The icons' own autoencoder (kept in `store`) and its held-out error, whole and for
    each pack.
    """
    from diffusers import AutoencoderKL

    held_out = held_out_subjects(icons)
    if store.exists():
        vae = AutoencoderKL.from_pretrained(store)
    else:
        vae = train_autoencoder(images[~held_out[index]], AUTOENCODER_STEPS, SEED, start=start)
        vae.save_pretrained(store)
    errors = {}
    for pack in sorted({i.pack for i in icons}):
        rows = [k for k in np.flatnonzero(held_out) if icons[k].pack == pack][:64]
        errors[pack] = reconstruction_error(
            vae, np.stack([draw(pictures[k], 1.0, 0.5, 0.5) for k in rows])
        )
    errors = {pack: round(error, 4) for pack, error in errors.items()}
    return vae, {"all": round(float(np.mean(list(errors.values()))), 4), **errors}
