"""Fonts -> distance fields -> handwriting-like 32x32 pictures of letters and digits.

A glyph is kept as two distance fields, to its outline and to its skeleton. A threshold at a random
offset then gives any stroke thickness, and a pen drawn along the skeleton looks handwritten.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHARACTERS = DIGITS + LETTERS
COUNTS = {DIGITS: 14_000, LETTERS: 1_800}  # pictures of each character in the bases with digits
FIELD = 48  # side of a distance field, pixels
INK = 32  # longer side of the glyph inside it, pixels


@dataclass(frozen=True)
class GlyphSet:
    """`outline`, `skeleton`: float16 [N, 48, 48], pixels (outline is negative inside).
    `character`: index into CHARACTERS, int64 [N]. `family`: font family number, int64 [N]."""

    outline: np.ndarray
    skeleton: np.ndarray
    character: np.ndarray
    family: np.ndarray
    family_names: list[str]


def _bitmap(font: ImageFont.FreeTypeFont, char: str) -> np.ndarray | None:
    """The character's ink, longer side 32 px, centred in 48x48; None if the font has no ink
    for it.
    """
    image = Image.new("L", (160, 160))
    ImageDraw.Draw(image).text((48, 32), char, fill=255, font=font)
    box = Image.fromarray((np.asarray(image) > 10).astype(np.uint8)).getbbox()
    if box is None:
        return None
    crop = image.crop(box)
    scale = INK / max(crop.size)
    crop = crop.resize([max(1, round(s * scale)) for s in crop.size], Image.Resampling.LANCZOS)
    out = Image.new("L", (FIELD, FIELD))
    out.paste(crop, ((FIELD - crop.width) // 2, (FIELD - crop.height) // 2))
    return np.asarray(out)


def _render_face(path: str) -> tuple[str, str, np.ndarray] | None:
    """(family, hash, bitmaps [62, 48, 48]) of one font file, or None where it is not a full
    alphabet.
    """
    try:
        font = ImageFont.truetype(path, 64)
        notdef = _bitmap(font, "\U000f1234")
        bitmaps = [_bitmap(font, c) for c in CHARACTERS]
    except (OSError, ValueError):
        return None
    if any(b is None or b.max() < 100 for b in bitmaps):
        return None
    if notdef is not None and any(np.array_equal(b, notdef) for b in bitmaps):
        return None
    stack = np.stack(bitmaps)
    if len({b.tobytes() for b in stack}) < 0.8 * len(CHARACTERS):
        return None
    return font.getname()[0] or Path(path).stem, hashlib.sha256(stack.tobytes()).hexdigest(), stack


def _fields(bitmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import distance_transform_edt as edt
    from skimage.morphology import skeletonize

    ink = bitmap > 127
    bone = skeletonize(ink)
    outline = edt(~ink) - edt(ink)
    return outline.astype(np.float16), edt(~bone).astype(np.float16)


def _face_fields(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = [_fields(b) for b in stack]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


def _looks_like_letters(stacks: np.ndarray) -> np.ndarray:
    """Faces [F] whose glyphs are mostly nearest (top 5) to the right class mean: drops dingbats."""
    flat = torch.from_numpy(stacks.astype(np.float32)).flatten(2) / 255
    flat = (
        F.avg_pool2d(flat.view(-1, 1, FIELD, FIELD), 3)
        .flatten(1)
        .view(len(stacks), len(CHARACTERS), -1)
    )
    centres = flat.mean(0)
    hits = []
    for face in flat:
        top5 = torch.cdist(face, centres).topk(5, largest=False).indices
        hits.append((top5 == torch.arange(len(CHARACTERS))[:, None]).any(1).float().mean().item())
    return np.array(hits) > 0.6


def load_glyphs(fonts: Path, cache: Path, workers: int = 2) -> GlyphSet:
    """Render every usable face under `fonts`; kept in `cache/glyphs.npz`."""
    store = cache / "glyphs.npz"
    if not store.exists():
        files = sorted(str(p) for p in fonts.rglob("*") if p.suffix.lower() in {".ttf", ".otf"})
        with ProcessPoolExecutor(workers) as pool:
            faces = [f for f in pool.map(_render_face, files, chunksize=8) if f]
            unique = {digest: (family, stack) for family, digest, stack in faces}
            families, stacks = zip(*unique.values())
            keep = _looks_like_letters(np.stack(stacks))
            families = [f for f, k in zip(families, keep) if k]
            fields = list(
                pool.map(_face_fields, [s for s, k in zip(stacks, keep) if k], chunksize=4)
            )
        names = sorted(set(families))
        count = len(CHARACTERS)
        np.savez(
            store,
            outline=np.concatenate([f[0] for f in fields]),
            skeleton=np.concatenate([f[1] for f in fields]),
            character=np.tile(np.arange(count), len(families)),
            family=np.repeat([names.index(f) for f in families], count),
            family_names=np.array(names),
        )
    data = np.load(store)
    return GlyphSet(
        data["outline"],
        data["skeleton"],
        data["character"],
        data["family"],
        data["family_names"].tolist(),
    )


def _noise_field(count: int, cells: int, g: torch.Generator) -> torch.Tensor:
    """Smooth displacement [count, 48, 48, 2] in units of the picture's half side."""
    coarse = torch.randn(count, 2, cells, cells, generator=g)
    smooth = F.interpolate(coarse, size=(FIELD, FIELD), mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)


def draw(outline: torch.Tensor, skeleton: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Distance fields [B, 48, 48] -> handwriting-like uint8 [B, 32, 32], white ink on black.

    Random slant, rotation, aspect and elastic warp, then a pen of random width; last the ink is put
    in a 20 px box by its centre of mass, as handwritten-digit collections do.
    """
    b = len(outline)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(b, generator=g) * (high - low) + low

    angle, slant = torch.randn(b, generator=g) * 0.12, torch.randn(b, generator=g) * 0.22
    sx, sy = (
        torch.exp(torch.randn(b, generator=g) * 0.12),
        torch.exp(torch.randn(b, generator=g) * 0.12),
    )
    cos, sin = angle.cos(), angle.sin()
    affine = torch.zeros(b, 2, 3)
    affine[:, 0, 0], affine[:, 0, 1] = cos * sx, -sin * sy + slant
    affine[:, 1, 0], affine[:, 1, 1] = sin * sx, cos * sy
    affine[:, :, :2] *= 1.15  # leave room for the warp
    grid = F.affine_grid(affine, [b, 1, FIELD, FIELD], align_corners=False)
    strength = uniform(0.0, 0.075)[:, None, None, None]
    grid = grid + strength * _noise_field(b, 4, g) + 0.3 * strength * _noise_field(b, 8, g)

    fields = torch.stack([outline, skeleton], 1).float()
    warped = F.grid_sample(fields, grid, padding_mode="border", align_corners=False)
    pen = uniform(1.2, 3.4)[:, None, None]  # radius, pixels of the field
    solid = uniform(-0.9, 1.2)[:, None, None]
    thin = (torch.rand(b, generator=g) < 0.75)[:, None, None]
    signed = torch.where(thin, warped[:, 1] - pen, warped[:, 0] - solid)
    soft = uniform(0.6, 1.4)[:, None, None]
    ink = (0.5 - signed / (2 * soft)).clamp(0, 1)

    on = ink > 0.3
    axis = torch.arange(FIELD, dtype=torch.float32)
    edges = []
    for dim in (1, 2):
        hit = on.any(dim)
        edges.append((torch.where(hit, axis, FIELD).amin(1), torch.where(hit, axis, -1.0).amax(1)))
    (x0, x1), (y0, y1) = edges
    side = torch.maximum(x1 - x0, y1 - y0).clamp(min=8) + 1
    mass = ink.sum((1, 2)).clamp(min=1e-3)
    cx, cy = (ink.sum(1) * axis).sum(1) / mass, (ink.sum(2) * axis).sum(1) / mass
    # The output is 64 px wide, twice the final picture: the ink box of 40 px becomes 20.
    zoom = side / 40 * 64 / FIELD
    box = torch.zeros(b, 2, 3)
    box[:, 0, 0], box[:, 1, 1] = zoom, zoom
    box[:, 0, 2], box[:, 1, 2] = (cx + 0.5) / FIELD * 2 - 1, (cy + 0.5) / FIELD * 2 - 1
    big = F.grid_sample(
        ink[:, None], F.affine_grid(box, [b, 1, 64, 64], align_corners=False), align_corners=False
    )
    small = F.avg_pool2d(big, 2)[:, 0]
    small = (small * uniform(1.0, 1.35)[:, None, None]).clamp(0, 1)
    return (small * 255).round().to(torch.uint8)


def make_images(
    glyphs: GlyphSet, characters: str, per_character: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`per_character` augmented pictures of each of `characters`: (uint8 [N, 32, 32], index into
    CHARACTERS [N]).
    """
    g = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    # Every family weighs the same, however many faces it has.
    weight = 1 / np.bincount(glyphs.family)[glyphs.family]
    chosen = []
    for c in characters:
        pool = np.flatnonzero(glyphs.character == CHARACTERS.index(c))
        chosen.append(rng.choice(pool, per_character, p=weight[pool] / weight[pool].sum()))
    index = rng.permutation(np.concatenate(chosen))
    pictures = [
        draw(torch.from_numpy(glyphs.outline[i]), torch.from_numpy(glyphs.skeleton[i]), g)
        for i in np.array_split(index, max(1, len(index) // 512))
    ]
    return torch.cat(pictures).numpy(), glyphs.character[index]


def make_each(
    font_glyphs: GlyphSet, counts: dict[str, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `counts` (characters -> pictures of each): uint8 [N, 32, 32], index into CHARACTERS."""
    parts = [make_images(font_glyphs, c, n, seed + k) for k, (c, n) in enumerate(counts.items())]
    images, label = (np.concatenate(p) for p in zip(*parts))
    return images, label
