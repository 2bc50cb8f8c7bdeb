"""Public pictures of everyday things, 64x64 in colour and grey -> the base `things`.

Emoji and icons, clip art, avatars, silhouettes cut from them, rendered shapes and textures, and
grey phantoms of scans. It continues from the bundled base icons, on four times the pixels: its
autoencoder, the words, and the two outer levels of the denoiser.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import captions, drawings, icons, packages, rendered
from .autoencoder import encode, reconstruction_error, train_autoencoder
from .denoiser import Examples, grow, make_large_unet, train_denoiser
from .garments import silhouette
from .icons import SIDE, Icon, article
from .saving import log, save_pipeline

SEED = 20261129
AUTOENCODER_STEPS, STEPS, BATCH = 1100, 2790, 96
MINUTES = 180  # at most, of the denoiser
# Pictures of each: packs in colour, other packs, each style of avatars; then all the others.
COLOUR_A_PACK, OTHERS_A_PACK, AVATARS_A_STYLE = 3000, 2000, 500
CLIP_ARTS, SILHOUETTES, SHAPES, TEXTURES, PHANTOMS = 9000, 14_000, 3500, 3500, 9000
HELD_OUT = 1024  # pictures that the autoencoder never sees; drawings of theirs it may
COLOURED = ("emoji", "colour")  # how the styles of the packs in colour end
_ROUND = {"face", "flag", "button", "circle", "square", "clock", "moon", "smiling", "cards"}


def thing_captions(subject: str, style: str) -> list[str]:
    """Five captions of one drawing, the commonest first."""
    a = article(subject)
    return [
        f"a drawing of {a} {subject}, {style} style",
        f"a picture of {a} {subject}",
        f"{subject}, {style} style",
        f"{a} {subject}",
        f"{style} style",
    ]


def avatar_captions(subject: str, style: str) -> list[str]:
    """Captions of an avatar, whose style says that it is one."""
    return [
        f"avatar of a {subject}, {style.removesuffix(' avatar')} style",
        "avatar",
        f"a picture of a {subject}",
        f"avatar, {style.removesuffix(' avatar')} style",
    ]


def grey_captions(subject: str, kind: str) -> list[str]:
    """Captions of a silhouette or a grey picture of a thing."""
    a = article(subject)
    captions_of = {
        "white": f"a white silhouette of {a} {subject} on black",
        "black": f"a black silhouette of {a} {subject} on white",
        "grey": f"a grey picture of {a} {subject} on black",
    }
    what = "grey picture" if kind == "grey" else "silhouette"
    return [captions_of[kind], f"{what} of {a} {subject}", f"a picture of {a} {subject}", what]


def grey_picture(picture: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray | None:
    """A drawing uint8 [64, 64, 3] as a silhouette, or in grey on black; None where it fills too
    much or too little of the frame to be told from others.

    It is mirrored half the time and its longer side is made 40 to 62 pixels.
    """
    inside, _ = silhouette(picture)
    mask = Image.fromarray(inside.astype(np.uint8) * 255)
    inside = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
    share = inside.mean()
    if not 0.08 < share < 0.6:
        return None
    ink = np.ones_like(inside) if kind != "grey" else picture.mean(2) / 255 * rng.uniform(0.7, 1)
    drawn = inside * ink
    rows, columns = (np.flatnonzero((inside > 0.5).any(axis)) for axis in (1, 0))
    part = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    scale = rng.uniform(40, 62) / max(part.shape)
    size = max(2, round(part.shape[1] * scale)), max(2, round(part.shape[0] * scale))
    small = Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BILINEAR)
    frame = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = np.asarray(small)
    if kind == "black":
        frame = 1 - frame
    grey = np.rint(255 * np.clip(frame, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


class Album:
    """Pictures with the number of their captions, as they are gathered."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.label: list[np.ndarray] = []
        self.captions: list[list[str]] = []
        self.count: dict[str, int] = {}

    def add(self, kind: str, images: np.ndarray, texts: list[list[str]], index: np.ndarray) -> None:
        """`images[k]` has the captions `texts[index[k]]`."""
        self.images.append(images)
        self.label.append(index + len(self.captions))
        self.captions += texts
        self.count[kind] = len(images)
        log(f"{len(images)} {kind}")

    def shuffled(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        images, label = np.concatenate(self.images), np.concatenate(self.label)
        order = np.random.default_rng(seed).permutation(len(images))
        return images[order], label[order]


def _is_solid(icon: Icon) -> bool:
    """Whether the drawing's outline is the thing's own, and so worth a silhouette."""
    solid = icon.style.endswith(("silhouette", "emoji", "clip art"))
    return solid and not _ROUND & set(icon.subject.split())


def add_grey(album: Album, known: list[Icon], pictures: np.ndarray, n: int) -> None:
    """`n` silhouettes and grey pictures, half of them white on black."""
    rng = np.random.default_rng(SEED + 2)
    solid = [k for k, icon in enumerate(known) if _is_solid(icon)]
    images, texts = [], []
    while len(images) < n:
        for k in rng.permutation(solid)[: n - len(images)]:
            kind = str(rng.choice(["white", "white", "black", "grey"]))
            image = grey_picture(pictures[k], kind, rng)
            if image is not None:
                images.append(image)
                texts.append(grey_captions(known[k].subject, kind))
    album.add("silhouettes and grey pictures", np.stack(images), texts, np.arange(n))


def in_colour(known: list[Icon]) -> np.ndarray:
    """Which drawings are of a style in colour, bool [N]."""
    return np.array([i.style.endswith(COLOURED) and "contrast" not in i.style for i in known])


def gather(cache: Path) -> tuple[Album, dict[str, dict]]:
    """Every picture of the base, and the facts of its sources for the card."""
    album = Album()
    packs = packages.ICON_PACKAGES | packages.COLOUR_PACKAGES
    known, pictures, facts = icons.load_icons(cache, packs, "things-icons.npz")
    coloured = in_colour(known)
    for kind, chosen, each in (
        ("emoji and icons in colour", coloured, COLOUR_A_PACK),
        ("other icons", ~coloured, OTHERS_A_PACK),
    ):
        own = [icon for icon, wanted in zip(known, chosen) if wanted]
        images, index = icons.make_images(own, pictures[chosen], each, SEED, SIDE)
        album.add(kind, images, [thing_captions(i.subject, i.style) for i in own], index)
    words = {word for icon in known for word in icon.subject.split()}
    clips, clip_pictures, facts[packages.CLIP_ART] = drawings.load_clip_art(cache, words)
    images, index = icons.make_images(clips, clip_pictures, CLIP_ARTS, SEED, SIDE)
    album.add("clip art", images, [thing_captions(i.subject, i.style) for i in clips], index)
    people, faces, styles = drawings.load_avatars(cache)
    texts = [avatar_captions(i.subject, i.style) for i in people]
    images, index = icons.make_images(people, faces, AVATARS_A_STYLE, SEED, SIDE)
    album.add("avatars", images, texts, index)
    facts |= {f"dicebear {name}": style for name, style in styles.items()}
    add_grey(album, [*known, *clips], np.concatenate([pictures, clip_pictures]), SILHOUETTES)
    rng = np.random.default_rng(SEED + 3)
    for kind, drawer, n in (
        ("shapes", rendered.shape, SHAPES),
        ("textures", rendered.texture, TEXTURES),
        ("phantoms of scans", rendered.phantom, PHANTOMS),
    ):
        drawn, texts = zip(*(drawer(rng) for _ in range(n)))
        album.add(kind, np.stack(drawn), list(texts), np.arange(n))
    return album, facts


def _autoencoder(store: Path, start, images: np.ndarray):
    """The base's own autoencoder, kept in `store`, continued from `start`."""
    from diffusers import AutoencoderKL

    if store.exists():
        return AutoencoderKL.from_pretrained(store)
    start.register_to_config(sample_size=SIDE)
    vae = train_autoencoder(images, AUTOENCODER_STEPS, SEED, batch=64, start=start)
    vae.save_pretrained(store)
    return vae


def make_things(work: Path, cache: Path, start: Path) -> Path:
    """The base of everyday things: `work/things`, continued from the icons base in the folder
    `start`.
    """
    from diffusers import StableDiffusionPipeline

    done = work / "things"
    if (done / "model_index.json").exists():
        return done
    torch.manual_seed(SEED)
    album, facts = gather(cache)
    images, label = album.shuffled(SEED)
    pipe = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32)
    vae = _autoencoder(work / "things-autoencoder", pipe.vae, images[HELD_OUT:])
    error = round(reconstruction_error(vae, images[:HELD_OUT]), 4)
    log(f"reconstruction error {error} on pictures the autoencoder has not seen")
    mean, std = encode(vae, images)
    scale = vae.config.scaling_factor
    said = sorted({c for row in album.captions for c in row})
    tokenizer = captions.make_tokenizer(said, work / "things-tokenizer", 16)
    log(f"encoded; {len(tokenizer)} tokens")
    text, unet = captions.make_text_encoder(tokenizer), make_large_unet()
    captions.carry_tokens(pipe.text_encoder, pipe.tokenizer, text, tokenizer)
    log(f"{grow(pipe.unet, unet)} of {unet.num_parameters()} weights start as those of icons")
    unet, text, figures = train_denoiser(
        unet,
        text,
        tokenizer,
        Examples(mean * scale, std * scale, label, album.captions),
        minutes=MINUTES,
        max_steps=STEPS,
        seed=SEED,
        learning_rate=1e-3,
        batch=BATCH,
        first_caption=0.5,
        store=work / "things-denoiser.pt",
    )
    figures |= {
        "continues": "the base icons, which continues from letters",
        "pictures": album.count,
        "parameters": sum(p.numel() for part in (unet, vae, text) for p in part.parameters()),
        "reconstruction_mse": error,
        "packages": facts,
    }
    save_pipeline(done, unet, vae, text, tokenizer)
    (done / "training.json").write_text(json.dumps(figures, indent=1))
    return done
