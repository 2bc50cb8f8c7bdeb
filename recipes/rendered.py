"""Pictures that a few random measures draw: shapes, textures and grey phantoms of scans, for the
base `things`. No picture of a patient was used.

Every function returns (uint8 [64, 64, 3], captions, the commonest first).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .icons import SIDE, article

FINE = 2 * SIDE  # what shapes are drawn at, before they are made smaller
COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (250, 212, 40),
    "green": (44, 160, 60),
    "blue": (31, 90, 200),
    "purple": (140, 70, 180),
    "pink": (240, 130, 180),
    "brown": (130, 80, 50),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "grey": (128, 128, 128),
}
SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "hexagon",
    "ellipse",
    "rectangle",
    "line",
)
_Y, _X = np.mgrid[:SIDE, :SIDE] / (SIDE / 2) - 1  # [-1, 1], down and right
Drawn = tuple[np.ndarray, list[str]]


def _colour(name: str, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(COLOURS[name]) + rng.normal(0, 14, 3), 0, 255)


def _corners(kind: str, x: float, y: float, r: float, turn: float) -> list[tuple[float, float]]:
    n = {"triangle": 3, "square": 4, "hexagon": 6, "star": 10, "cross": 12}[kind]
    angles = turn + 2 * np.pi * np.arange(n) / n
    radii = np.full(n, r)
    if kind == "star":
        radii[1::2] *= 0.45
    if kind == "cross":  # four arms: the inner corners lie between pairs of outer ones
        angles = turn + np.pi / 2 * np.repeat(np.arange(4), 3) + np.tile([-0.32, 0.32, 0.785], 4)
        radii = r * np.tile([1, 1, 0.45], 4)
    return [(x + a * np.cos(t), y + a * np.sin(t)) for a, t in zip(radii, angles)]


def _one_shape(pen: ImageDraw.ImageDraw, kind: str, place: tuple, fill: tuple, turn: float) -> None:
    x, y, r = place
    if kind in ("circle", "ring", "ellipse"):
        high = 0.6 * r if kind == "ellipse" else r
        width = max(2, int(0.3 * r))
        ink = {"outline": fill, "width": width} if kind == "ring" else {"fill": fill}
        pen.ellipse((x - r, y - high, x + r, y + high), **ink)
    elif kind == "rectangle":
        pen.rectangle((x - r, y - 0.55 * r, x + r, y + 0.55 * r), fill=fill)
    elif kind == "line":
        dx, dy = r * np.cos(turn), r * np.sin(turn)
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=max(3, int(0.2 * r)))
    else:
        pen.polygon(_corners(kind, x, y, r, turn), fill=fill)


def shape(rng: np.random.Generator) -> Drawn:
    """One to three shapes of one kind and colour on a plain ground."""
    kind, count = SHAPES[rng.integers(len(SHAPES))], int(rng.choice([1, 1, 1, 2, 3]))
    ground = str(rng.choice(["white", "white", "black", *COLOURS]))
    colour = str(rng.choice([name for name in COLOURS if name != ground]))
    canvas = Image.new("RGB", (FINE, FINE), tuple(_colour(ground, rng).astype(int)))
    pen, fill = ImageDraw.Draw(canvas), tuple(_colour(colour, rng).astype(int))
    step = FINE / (count + 1)
    for k in range(count):
        r = rng.uniform(0.18, 0.42) * FINE if count == 1 else rng.uniform(0.3, 0.48) * step
        x = step * (k + 1) + rng.normal(0, 0.03 * FINE)
        place = x, FINE / 2 + rng.normal(0, 0.06 * FINE), r
        _one_shape(pen, kind, place, fill, rng.choice([-np.pi / 2, rng.uniform(0, 2 * np.pi)]))
    named = kind if count == 1 else kind + ("es" if kind == "cross" else "s")
    what = f"{(article(colour), 'two', 'three')[count - 1]} {colour} {named}"
    picture = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return picture, [f"{what} on {ground}", what, f"a picture of {what}", f"a drawing of {what}"]


def noise(rng: np.random.Generator, cells: int, rough: float = 0.0) -> np.ndarray:
    """Smooth noise in about [-1, 1], float [64, 64]; `rough` adds finer noise by halves."""
    total, weight = np.zeros((SIDE, SIDE)), 1.0
    while cells <= SIDE:
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        fine = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        total += weight * np.asarray(fine)
        cells, weight = 2 * cells, weight * rough
        if weight < 0.05:
            break
    return total


def _pattern(kind: str, rng: np.random.Generator) -> np.ndarray:
    """How much of the second colour each point has, float [64, 64] in [0, 1]."""
    turn, often = rng.uniform(0, np.pi), rng.uniform(2, 9)
    u, v = _X * np.cos(turn) + _Y * np.sin(turn), _Y * np.cos(turn) - _X * np.sin(turn)
    wave = lambda a: np.sin(np.pi * often * a + 1)  # noqa: E731
    if kind == "stripes":
        return np.clip(0.5 + 2 * wave(u), 0, 1)
    if kind == "checks":
        return np.clip(0.5 + 4 * wave(u) * wave(v), 0, 1)
    if kind == "dots":
        return np.clip(0.5 + 3 * (wave(u) * wave(v) - rng.uniform(0.2, 0.6)), 0, 1)
    if kind == "waves":
        return 0.5 + 0.5 * wave(u + 0.15 * np.sin(4 * v))
    if kind == "clouds":
        return np.clip(0.5 + 0.6 * noise(rng, 4, 0.5), 0, 1)
    if kind == "marble":
        return 0.5 + 0.5 * np.sin(6 * u + 3 * noise(rng, 4, 0.5))
    if kind == "wood":
        return 0.5 + 0.5 * np.sin(
            9 * np.hypot(u, 0.25 * v + rng.uniform(-1, 1)) * 3 + noise(rng, 3)
        )
    if kind == "bricks":
        rows = 4 + int(often / 2)
        row = np.floor((_Y + 1) * rows / 2)
        along = ((_X + 1) * rows / 4 + 0.5 * (row % 2)) % 1
        across = ((_Y + 1) * rows / 2) % 1
        return ((along < 0.08) | (across < 0.15)).astype(float)
    if kind == "sand":
        return np.clip(0.5 + rng.normal(0, 0.12, (SIDE, SIDE)), 0, 1)
    return np.clip(0.5 + 0.5 * u, 0, 1)  # a gradient


def texture(rng: np.random.Generator) -> Drawn:
    """One pattern in two colours over the whole picture, a third of them grey."""
    kinds = "stripes checks dots waves clouds marble wood bricks sand gradient".split()
    kind = str(rng.choice(kinds))
    first, second = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    mixed = _pattern(kind, rng)[..., None]
    picture = _colour(first, rng) * (1 - mixed) + _colour(second, rng) * mixed
    picture += rng.normal(0, rng.uniform(0, 4), (SIDE, SIDE, 1))
    named = f"{first} and {second}"
    if rng.random() < 1 / 3:
        picture, named = np.repeat(picture.mean(2, keepdims=True), 3, axis=2), "grey"
    captions = [f"a texture of {kind}, {named}", f"{named} {kind}", f"a texture of {kind}"]
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8), captions


class _Body:
    """A grey picture in [0, 1] onto which soft ellipses are laid, on a grid bent a little."""

    def __init__(self, rng: np.random.Generator, bend: float = 0.06):
        self.rng = rng
        self.x = _X + bend * noise(rng, 3)
        self.y = _Y + bend * noise(rng, 3)
        self.grey = np.zeros((SIDE, SIDE))

    def inside(self, x: float, y: float, a: float, b: float, turn: float = 0.0) -> np.ndarray:
        """1 inside the ellipse, 0 outside, a soft edge of a pixel between."""
        a, b = np.array([a, b]) * self.rng.uniform(0.88, 1.12, 2)
        dx, dy = self.x - x, self.y - y
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / a
        v = (dy * np.cos(turn) - dx * np.sin(turn)) / b
        return np.clip((1 - np.hypot(u, v)) * min(a, b) * SIDE / 2 + 0.5, 0, 1)

    def lay(self, grey: float, *ellipse: float, opaque: float = 1.0) -> None:
        part = opaque * self.inside(*ellipse)
        self.grey = self.grey * (1 - part) + grey * part


def _chest(body: _Body, rng: np.random.Generator) -> None:
    body.lay(0.45, 0, 0, 0.92, 0.68)
    body.lay(0.62, 0, 0, 0.84, 0.6)
    for side in (-1, 1):
        body.lay(rng.uniform(0.05, 0.18), side * 0.42, 0.02, 0.3, 0.44)
        for angle in rng.uniform(0.3, 2.8, 4):
            x, y = side * 0.82 * np.sin(angle), -0.6 * np.cos(angle)
            body.lay(0.95, x, y, 0.09, 0.04, angle * side)
    body.lay(0.68, rng.uniform(0, 0.2), -0.15, 0.26, 0.24, 0.5)
    body.lay(0.95, 0, 0.42, 0.12, 0.12)
    body.lay(0.6, 0, 0.42, 0.05, 0.05)


def _abdomen(body: _Body, rng: np.random.Generator) -> None:
    body.lay(0.3, 0, 0, 0.92, 0.7)
    body.lay(0.5, 0, 0, 0.8, 0.58)
    body.lay(rng.uniform(0.55, 0.7), -0.38, -0.12, 0.38, 0.36, 0.4)
    body.lay(rng.uniform(0.55, 0.75), 0.5, 0.05, 0.18, 0.26, -0.4)
    for side in (-1, 1):
        body.lay(rng.uniform(0.65, 0.85), side * 0.34, 0.32, 0.12, 0.16, 0.3 * side)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(-0.1, 0.5), rng.uniform(-0.4, 0.1)
        body.lay(rng.choice([0.05, 0.62]), x, y, rng.uniform(0.05, 0.13), rng.uniform(0.05, 0.1))
    body.lay(0.95, 0, 0.4, 0.14, 0.12)
    body.lay(0.75, 0.05, 0.2, 0.07, 0.07)


def _head(body: _Body, rng: np.random.Generator) -> None:
    skull, brain, fluid = rng.choice([0.95, 0.35]), rng.uniform(0.4, 0.65), rng.choice([0.15, 0.95])
    a = rng.uniform(0.62, 0.75)
    body.lay(0.55, 0, 0, a + 0.12, 0.92)
    body.lay(skull, 0, 0, a + 0.06, 0.86)
    body.lay(brain, 0, 0, a, 0.78)
    body.grey += body.inside(0, 0, a, 0.76) * 0.1 * noise(rng, 9, 0.5)
    for side in (-1, 1):
        body.lay(fluid, side * 0.13, -0.14, 0.07, 0.22, 0.3 * side)
        body.lay(fluid, side * 0.15, 0.22, 0.06, 0.18, -0.3 * side)
    body.lay(0.75, 0, 0, 0.012, 0.75, opaque=0.6)
    if rng.random() < 0.3:
        x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.5)
        body.lay(rng.choice([0.1, 0.95]), x, y, rng.uniform(0.08, 0.2), rng.uniform(0.08, 0.2))


def _knee(body: _Body, rng: np.random.Generator) -> None:
    inner, wide = rng.uniform(0.55, 0.9), rng.uniform(0.28, 0.4)
    body.lay(0.35, 0, 0, 0.62, 1.4)
    body.lay(0.5, 0, 0, 0.5, 1.4)
    for end in (-1, 1):
        body.lay(0.98, 0, end * 0.9, wide * 0.75, 0.75)
        body.lay(0.98, 0, end * 0.36, wide + 0.06, 0.3)
        body.lay(inner, 0, end * 0.9, wide * 0.6, 0.72)
        body.lay(inner, 0, end * 0.37, wide, 0.24)


def _lungs(body: _Body, rng: np.random.Generator) -> None:
    body.grey += 0.72
    for side in (-1, 1):
        body.lay(rng.uniform(0.12, 0.3), side * 0.42, -0.02, 0.3, 0.68, 0.12 * side)
        for y in np.arange(-0.7, 0.6, rng.uniform(0.16, 0.22)):
            arc = np.abs(body.y - y - 0.25 * (np.abs(body.x) - 0.4) ** 2 * 3)
            rib = np.clip(1 - arc / 0.035, 0, 1) * (side * body.x > 0.08)
            body.grey += 0.18 * rib
    body.lay(0.85, 0.14, 0.25, 0.3, 0.34, 0.5)
    body.lay(0.8, 0, -0.1, 0.1, 1.2)
    body.lay(0.88, 0, 1.1, 1.2, 0.42)


def _hand(body: _Body, rng: np.random.Generator) -> None:
    body.lay(0.35, 0, 0.45, 0.5, 0.5)
    for k, turn in enumerate(np.linspace(-0.6, 0.5, 5) + rng.normal(0, 0.04, 5)):
        for far, length in ((0.25, 0.2), (0.62, 0.15), (0.9, 0.11)):
            far *= 0.75 if k == 0 else 1
            x, y = 1.05 * far * np.sin(turn), 0.6 - 1.3 * far * np.cos(turn)
            body.lay(0.4, x, y, length + 0.06, 0.12, turn + np.pi / 2, opaque=0.9)
            body.lay(0.92, x, y, length, 0.055, turn + np.pi / 2)


SLICES = {
    "chest": ("slice", _chest),
    "abdomen": ("slice", _abdomen),
    "head": ("slice", _head),
    "knee": ("x-ray", _knee),
    "lungs": ("x-ray", _lungs),
    "hand": ("x-ray", _hand),
}


def _ultrasound(rng: np.random.Generator) -> np.ndarray:
    """Speckle in a fan, dark where fluid is, a shadow behind what is bright."""
    top, half = rng.uniform(-1.5, -1.1), rng.uniform(0.5, 0.85)
    depth, angle = np.hypot(_X, _Y - top), np.arctan2(_X, _Y - top)
    fan = (np.abs(angle) < half) & (depth > -1 - top + 0.12) & (depth < 1 - top - 0.08)
    body = _Body(rng, 0.1)
    body.grey += 0.45 + 0.25 * noise(rng, 4, 0.5)
    for _ in range(rng.integers(1, 4)):
        x, y, a = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.5), rng.uniform(0.1, 0.32)
        body.lay(0.8, x, y, a + 0.05, 0.75 * a + 0.05)
        body.lay(rng.uniform(0, 0.15), x, y, a, 0.75 * a)
    if rng.random() < 0.4:
        body.grey *= np.where(np.abs(angle - rng.uniform(-0.4, 0.4)) < 0.08, 0.3, 1)
    speckle = ndimage.gaussian_filter(rng.rayleigh(1, (SIDE, SIDE)), (0.4, 0.8))
    return np.where(fan, body.grey * speckle * rng.uniform(0.6, 0.9), 0)


def _cells(rng: np.random.Generator) -> np.ndarray:
    body = _Body(rng, 0.05)
    body.grey += rng.uniform(0.05, 0.2)
    for _ in range(rng.integers(3, 16)):
        x, y, a = *rng.uniform(-1, 1, 2), rng.uniform(0.1, 0.28)
        turn = rng.uniform(0, np.pi)
        body.lay(rng.uniform(0.4, 0.6), x, y, a, 0.8 * a, turn, opaque=0.8)
        body.lay(rng.uniform(0.7, 0.95), x, y, 0.4 * a, 0.4 * a, turn)
    return 1 - body.grey if rng.random() < 0.4 else body.grey


def phantom(rng: np.random.Generator) -> Drawn:
    """A grey picture that stands for a scan: slices, X-rays, ultrasound, cells."""
    kind = str(rng.choice([*SLICES, "ultrasound", "cells"]))
    if kind == "ultrasound":
        grey, what = _ultrasound(rng), "ultrasound fan of a phantom"
    elif kind == "cells":
        grey, what = _cells(rng), "cells under a microscope"
    else:
        view, lay = SLICES[kind]
        body = _Body(rng)
        lay(body, rng)
        grey, what = body.grey, f"{view} of {article(kind)} {kind} phantom"
    grey = ndimage.gaussian_filter(grey, rng.uniform(0, 0.8))
    grey = grey * rng.uniform(0.75, 1.1) + rng.normal(0, rng.uniform(0, 0.05), grey.shape)
    picture = np.rint(255 * np.clip(grey, 0, 1) ** rng.uniform(0.8, 1.3)).astype(np.uint8)
    captions = [
        f"grey {what}",
        what,
        f"a picture of {article(kind)} {kind}, grey scan",
        "grey scan",
    ]
    return np.repeat(picture[..., None], 3, axis=2), captions
