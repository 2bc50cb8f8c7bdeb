"""Icons that are garments, outlines from measures, cloth, and pictures of both."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("diffusers")

from recipes import garments, packages
from recipes.patterns import PATTERNS, SIDE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("t-shirt", "t shirt"),
        ("t-shirt-bold-duotone", "t shirt"),
        ("tshirt-crew-outline", "t shirt"),
        ("polo-shirt", "shirt"),
        ("hoodie-fill", "vest"),
        ("womans-sandal", "sandal"),
        ("high-heeled-shoe", "sandal"),
        ("mans-shoe", "shoe"),
        ("purse-01", "handbag"),
        ("cowboy-boot", "boot"),
        ("money-bag", None),
        ("shirt-off", None),
        ("boot-prints", None),
        ("address", None),
    ],
)
def test_names_of_icons_say_the_garment(name, kind):
    assert garments.kind_of(name) == kind


def test_every_garment_has_an_outline_and_a_word_of_the_icons_base():
    from sfumato.bases import bundled_bases, load_base

    assert garments.KINDS.keys() == PATTERNS.keys()
    assert not load_base(str(bundled_bases()["icons"])).unknown_words(list(garments.KINDS))


@pytest.mark.parametrize("kind", PATTERNS)
def test_outlines_differ_and_stay_on_the_sheet(kind):
    shapes = []
    for seed in range(20):
        shape, lines = PATTERNS[kind](np.random.default_rng(seed))
        assert shape.shape == lines.shape == (SIDE, SIDE) and shape.dtype == bool
        assert 0.02 < shape.mean() < 0.8 and 0 <= lines.min() <= lines.max() <= 1
        assert not shape[0].any() and not shape[-1].any()  # nothing is cut off above or below
        shapes.append(shape.tobytes())
    assert len(set(shapes)) == 20


def test_trousers_are_taller_than_a_shoe_and_a_pullover_has_longer_sleeves_than_a_t_shirt():
    def measure(kind, of):
        return np.mean([of(PATTERNS[kind](np.random.default_rng(seed))[0]) for seed in range(30)])

    high = lambda shape: np.ptp(np.flatnonzero(shape.any(1))) / np.ptp(np.flatnonzero(shape.any(0)))  # noqa: E731
    wide_below = lambda shape: shape[SIDE // 2].sum() / shape[SIDE // 4].sum()  # noqa: E731
    assert measure("jeans", high) > 1.5 > 0.6 > measure("shoe", high)
    assert measure("vest", wide_below) > measure("t shirt", wide_below)


def test_a_silhouette_is_filled():
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[10:54, 10:54] = 0
    picture[14:50, 14:50] = 255  # an outline only
    shape, lines = garments.silhouette(picture)
    assert shape.shape == lines.shape == (SIDE, SIDE)
    assert shape[SIDE // 2, SIDE // 2] and not shape[2, 2] and lines[SIDE // 2, SIDE // 2] < 0.1


def test_cloth_is_dark_on_white_inside_the_shape_alone():
    shape = np.zeros((SIDE, SIDE), bool)
    shape[10:80, 30:50] = True
    for seed in range(20):
        picture = garments.cloth(shape, shape * 0.0, np.random.default_rng(seed))
        assert picture.shape == (32, 32) and picture.dtype == np.uint8
        rows, columns = (np.flatnonzero((picture < 255).any(axis)) for axis in (1, 0))
        assert 24 <= np.ptp(rows) + 1 <= 30 and np.ptp(columns) < np.ptp(rows) / 2
        assert (picture[:, 0] == 255).all() and (picture[0] == 255).all()


def test_pictures_are_the_same_twice_and_say_what_they_show():
    icon = PATTERNS["boot"](np.random.default_rng(0))
    other = np.full((64, 64, 3), 255, np.uint8)
    other[20:40, 20:40] = 0
    drawings = {kind: [icon] for kind in garments.KINDS}
    images, label = garments.make_images(drawings, [other] * 3, 5, 7, 1)
    again, _ = garments.make_images(drawings, [other] * 3, 5, 7, 1)
    assert np.array_equal(images, again) and images.shape == (57, 32, 32)
    assert np.bincount(label[:50]).tolist() == [5] * 10 and set(label[50:]) <= {10, 11, 12}


def test_drawings_of_all_packs_are_sorted_by_garment(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    monkeypatch.setattr(packages, "ICON_PACKAGES", {"ph": "1"})
    monkeypatch.setattr(packages, "GARMENT_PACKAGES", {"solar": "2"})
    monkeypatch.setattr(packages, "fetch_icons", lambda cache, wanted: cache)
    body = {"body": '<path fill="currentColor" d="M2 2h12v12H2z"/>'}
    for pack, names in (("ph", ("boot-fill", "bell")), ("solar", ("boot", "dress", "empty"))):
        folder = tmp_path / pack / "package"
        folder.mkdir(parents=True)
        (folder / "icons.json").write_text(json.dumps({"icons": dict.fromkeys(names, body)}))
        (folder / "info.json").write_text(
            json.dumps({"license": {"spdx": "MIT"}, "author": {"name": "A. Nyone"}})
        )
    found, facts = garments.load_drawings(tmp_path)
    assert {kind: len(own) for kind, own in found.items() if own} == {"boot": 2, "dress": 1}
    assert facts["solar"]["icons"] == 2 and facts["solar"]["version"] == "2"
