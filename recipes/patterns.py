"""Outlines of garments from a few random measures, as a child would draw them; no picture of a
garment is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96  # pixels, before a picture is made smaller

# shape bool [SIDE, SIDE], lines float [SIDE, SIDE] in [0, 1]
Drawing = tuple[np.ndarray, np.ndarray]


class _Sheet:
    """Two layers in units of the sheet: the shape, and lines upon it."""

    def __init__(self) -> None:
        self.layers = [Image.new("L", (SIDE, SIDE)) for _ in range(2)]
        self.shape, self.lines = (ImageDraw.Draw(layer) for layer in self.layers)
        self.top, self.bottom = 0.06, 0.94  # of a garment that hangs

    def fill(self, points) -> None:
        self.shape.polygon([(SIDE * x, SIDE * y) for x, y in points], fill=255)

    def both(self, points) -> None:
        """A polygon and its mirror image about the vertical middle."""
        self.fill(points)
        self.fill([(1 - x, y) for x, y in points])

    def line(self, points, width: int = 2) -> None:
        self.lines.line([(SIDE * x, SIDE * y) for x, y in points], fill=255, width=width)

    def strap(self, points, width: float) -> None:
        self.shape.line(
            [(SIDE * x, SIDE * y) for x, y in points],
            fill=255,
            width=max(2, round(SIDE * width)),
            joint="curve",
        )

    def done(self) -> Drawing:
        shape, lines = (np.asarray(layer) for layer in self.layers)
        return shape > 0, lines.astype(np.float32) / 255


def _top(
    rng: np.random.Generator,
    *,
    sleeve,
    angle,
    length,
    waist=(0.85, 1.05),
    hem=(0.9, 1.15),
    neck=(0.05, 0.12),
) -> _Sheet:
    """A torso with sleeves. sleeve: a share of the torso's length; angle: from hanging, degrees;
    waist and hem: of the chest.
    """
    sheet, u = _Sheet(), rng.uniform
    chest, tall = u(0.16, 0.21), u(*length)
    top = sheet.top
    bottom, shoulder = top + tall, chest * u(0.95, 1.1)
    at_waist, at_hem, open_ = chest * u(*waist), chest * u(*hem), chest * u(0.3, 0.5)
    armpit, drop = top + u(0.15, 0.2), u(0.02, 0.06)
    side = [(0.5 + open_, top), (0.5 + shoulder, top + drop), (0.5 + chest, armpit)]
    side += [(0.5 + at_waist, top + 0.55 * tall), (0.5 + at_hem, bottom), (0.5, bottom)]
    sheet.both([(0.5, top + u(*neck)), *side])
    reach = u(*sleeve) * tall
    if reach > 0.02:
        way = np.deg2rad(u(*angle))
        along = np.array([np.sin(way), np.cos(way)])
        start, under = (
            np.array([0.5 + shoulder, top + drop]),
            np.array([0.5 + chest * 0.97, armpit]),
        )
        wide = u(0.07, 0.1)
        end = start + along * reach
        inner = end + np.array([-along[1], along[0]]) * wide
        sheet.both(
            [tuple(start - (0.03, 0.01)), tuple(start), tuple(end), tuple(inner), tuple(under)]
        )
        for mirror in (1, -1):
            turn = lambda p, m=mirror: (0.5 + m * (p[0] - 0.5), p[1])  # noqa: E731
            sheet.line([turn(start), turn(under)])
            if rng.random() < 0.5:  # cuffs
                sheet.line([turn(end - 0.03 * along), turn(inner - 0.03 * along)])
    sheet.line([(0.5 - open_, top), (0.5, top + u(*neck)), (0.5 + open_, top)])
    sheet.bottom = bottom
    return sheet


def _front(sheet: _Sheet, rng: np.random.Generator, lapels: bool) -> _Sheet:
    """An opening down the middle, with buttons or lapels."""
    middle = 0.5 + rng.uniform(-0.02, 0.02)
    sheet.line([(middle, sheet.top + 0.06), (middle, sheet.bottom)], rng.integers(1, 4))
    if lapels:
        low = sheet.top + rng.uniform(0.15, 0.35)
        for sign in (-1, 1):
            sheet.line(
                [
                    (0.5 + sign * 0.08, sheet.top),
                    (0.5 + sign * 0.1, sheet.top + 0.12),
                    (middle, low),
                ],
                3,
            )
    for y in np.arange(sheet.top + 0.15, sheet.bottom, rng.uniform(0.08, 0.16)):
        sheet.line([(middle - 0.01, y), (middle + 0.01, y)], 3)
    return sheet


def t_shirt(rng) -> Drawing:
    return _top(rng, sleeve=(0.0, 0.42), angle=(15, 65), length=(0.55, 0.8)).done()


def pullover(rng) -> Drawing:
    sheet = _top(rng, sleeve=(0.8, 1.1), angle=(3, 20), length=(0.55, 0.75))
    if rng.random() < 0.4:
        sheet.line([(0.3, sheet.bottom - 0.05), (0.7, sheet.bottom - 0.05)], 3)
    return sheet.done()


def coat(rng) -> Drawing:
    sheet = _top(rng, sleeve=(0.65, 0.95), angle=(3, 15), length=(0.65, 0.9), hem=(0.95, 1.3))
    sheet = _front(sheet, rng, lapels=rng.random() < 0.7)
    for sign in (-1, 1):
        sheet.line([(0.5 + sign * 0.06, 0.6), (0.5 + sign * 0.13, 0.58)], 2)
    return sheet.done()


def shirt(rng) -> Drawing:
    sleeve = (0.75, 1.05) if rng.random() < 0.6 else (0.1, 0.45)
    return _front(
        _top(rng, sleeve=sleeve, angle=(3, 25), length=(0.6, 0.85)), rng, lapels=False
    ).done()


def dress(rng) -> Drawing:
    sleeve = (0, 0) if rng.random() < 0.5 else (0.1, 0.55)
    flare = (0.7, 1.1) if rng.random() < 0.4 else (1.1, 2.0)
    sheet = _top(
        rng,
        sleeve=sleeve,
        angle=(5, 30),
        length=(0.82, 0.9),
        waist=(0.6, 0.95),
        hem=flare,
        neck=(0.04, 0.2),
    )
    if rng.random() < 0.5:
        sheet.line([(0.3, 0.42), (0.7, 0.42)], 2)
    return sheet.done()


def trousers(rng) -> Drawing:
    sheet, u = _Sheet(), rng.uniform
    hip, ankle, gap = u(0.13, 0.2), u(0.06, 0.12), u(0.0, 0.06)
    crotch, bottom = u(0.28, 0.4), u(0.88, 0.95)
    outer = 0.5 + gap + 2 * ankle * u(0.8, 1.1)
    sheet.both(
        [
            (0.5, 0.05),
            (0.5 + hip * 0.85, 0.05),
            (0.5 + hip, crotch),
            (outer, bottom),
            (0.5 + gap, bottom),
            (0.5, crotch),
        ]
    )
    sheet.line([(0.3, 0.1), (0.7, 0.1)])
    sheet.line([(0.5, 0.05), (0.5, crotch)])
    return sheet.done()


def shoe(rng) -> Drawing:
    """A low shoe in profile."""
    sheet, u = _Sheet(), rng.uniform
    heel, throat, toe, base = u(0.38, 0.55), u(0.4, 0.55), u(0.58, 0.68), 0.74
    upper = [
        (0.05, base),
        (0.05, heel),
        (0.2, heel + 0.03),
        (0.38, throat),
        (0.6, toe - 0.04),
        (0.85, toe),
        (0.95, base),
    ]
    sheet.fill(upper)
    sheet.fill(
        [
            (0.04, base - 0.02),
            (0.96, base - 0.02),
            (0.94, base + u(0.03, 0.09)),
            (0.05, base + 0.06),
        ]
    )
    sheet.line([(0.04, base), (0.96, base)], rng.integers(2, 5))
    for k in range(rng.integers(0, 5)):
        x = 0.36 + 0.07 * k
        sheet.line([(x, throat + 0.04 + 0.035 * k), (x + 0.05, throat - 0.02 + 0.035 * k)])
    return sheet.done()


def boot(rng) -> Drawing:
    """A shoe with a shaft, and perhaps a heel."""
    sheet, u = _Sheet(), rng.uniform
    shaft, toe, top, base = u(0.3, 0.45), u(0.55, 0.66), u(0.08, 0.35), 0.82
    bend = u(0.45, 0.6)
    sheet.fill(
        [
            (0.1, top),
            (0.1 + shaft, top),
            (0.14 + shaft, bend),
            (0.72, toe),
            (0.92, base - 0.06),
            (0.92, base),
            (0.1, base),
        ]
    )
    high = u(0.0, 0.14)
    sheet.fill(
        [
            (0.1, base),
            (0.1 + u(0.08, 0.25), base),
            (0.1 + u(0.06, 0.2), base + high),
            (0.1, base + high),
        ]
    )
    if high < 0.06:
        sheet.line([(0.1, base - 0.03), (0.92, base - 0.03)], 3)
    if rng.random() < 0.5:
        sheet.line([(0.1, top + 0.08), (0.1 + shaft, top + 0.08)])
    return sheet.done()


def sandal(rng) -> Drawing:
    """A sole with straps, flat or on a heel."""
    sheet, u = _Sheet(), rng.uniform
    rise = u(0.0, 0.3) if rng.random() < 0.6 else 0.02
    base, thick = 0.75, u(0.03, 0.09)
    sole = [(0.06, base - rise), (0.3, base - rise * 0.8), (0.6, base - 0.02), (0.95, base)]
    sheet.fill([*sole, *[(x, y + thick) for x, y in reversed(sole)]])
    if rise > 0.08:
        sheet.fill(
            [
                (0.06, base - rise),
                (0.06 + u(0.04, 0.15), base - rise),
                (0.12, base + thick),
                (0.07, base + thick),
            ]
        )
    for x in rng.uniform(0.5, 0.85, rng.integers(1, 4)):
        sheet.strap(
            [(x - 0.12, base - 0.02), (x - 0.02, base - u(0.08, 0.2)), (x + 0.08, base)],
            u(0.02, 0.06),
        )
    if rng.random() < 0.7:
        y = base - rise - u(0.1, 0.25)
        sheet.strap(
            [(0.07, base - rise), (0.09, y), (0.3, y + 0.02), (0.34, base - rise * 0.7)],
            u(0.02, 0.05),
        )
    return sheet.done()


def handbag(rng) -> Drawing:
    sheet, u = _Sheet(), rng.uniform
    wide, high, taper = u(0.25, 0.45), u(0.3, 0.55), u(-0.08, 0.05)
    bottom = 0.92
    top = bottom - high
    sheet.both(
        [
            (0.5, top),
            (0.5 + wide + taper, top),
            (0.5 + wide, bottom - 0.03),
            (0.5 + wide - 0.03, bottom),
            (0.5, bottom),
        ]
    )
    if rng.random() < 0.8:
        w, tall = wide * u(0.4, 0.95), min(u(0.08, 0.45), top - 0.03)
        arc = [(0.5 + w * np.cos(a), top - tall * np.sin(a)) for a in np.linspace(0, np.pi, 12)]
        sheet.strap(arc, u(0.02, 0.06))
    if rng.random() < 0.6:
        y = top + high * u(0.15, 0.6)
        sheet.line([(0.5 - wide, y), (0.5 + wide, y)])
    if rng.random() < 0.5:
        sheet.line([(0.47, top + high * 0.4), (0.53, top + high * 0.4)], 4)
    return sheet.done()


PATTERNS: dict[str, Callable[[np.random.Generator], Drawing]] = {
    "t shirt": t_shirt,
    "jeans": trousers,
    "vest": pullover,
    "dress": dress,
    "coat": coat,
    "sandal": sandal,
    "shirt": shirt,
    "shoe": shoe,
    "handbag": handbag,
    "boot": boot,
}
