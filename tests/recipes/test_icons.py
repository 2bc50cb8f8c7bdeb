"""Icon captions, selection, rendering and drawing, on two dummy packs."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("diffusers")

from recipes import icons, packages

PH = {"traffic", "traffic-light", "traffic-light-thin", "bell", "bell-fill", "bell-duotone"}


@pytest.mark.parametrize(
    ("pack", "name", "known", "expected"),
    [
        ("ph", "bell", PH, ("bell", "outline")),
        ("ph", "bell-fill", PH, ("bell", "filled")),
        ("ph", "bell-duotone", PH, ("bell", "duotone")),
        ("ph", "traffic-light-thin", PH, ("traffic light", "thin outline")),
        ("material-symbols", "car", {"car"}, ("car", "filled")),
        ("material-symbols", "car-outline-rounded", {"car"}, ("car", "rounded outline")),
        ("material-symbols", "car-sharp", {"car"}, ("car", "sharp filled")),
        ("material-symbols", "border-outline", {"border-outline"}, ("border outline", "filled")),
        ("tabler", "bike-filled", {"bike"}, ("bike", "filled")),
        ("tabler", "message-2-off", {"message-2-off"}, ("message off", "outline")),
        ("lucide", "volume-1", {"volume-1"}, ("volume", "outline")),
        ("game-icons", "sad-crab", {"sad-crab"}, ("sad crab", "silhouette")),
        ("fluent-emoji-high-contrast", "hot-dog", {"hot-dog"}, ("hot dog", "high contrast emoji")),
        ("fluent-emoji-flat", "hot-dog", {"hot-dog"}, ("hot dog", "flat colour emoji")),
        ("noto", "hot-dog", {"hot-dog"}, ("hot dog", "colour emoji")),
        ("ph", "16-9", {"16-9"}, ("", "outline")),
    ],
)
def test_names_become_subject_and_style(pack, name, known, expected):
    assert icons.describe(pack, name, known) == expected


def test_every_pack_has_a_style():
    every = packages.ICON_PACKAGES | packages.COLOUR_PACKAGES
    assert icons.STYLES.keys() == every.keys()


def test_captions_name_subject_and_style():
    assert icons.icon_captions("bicycle", "outline")[0] == "icon of a bicycle, outline style"
    assert icons.icon_captions("apple", "filled")[0] == "icon of an apple, filled style"


def test_select_leaves_out_skin_tones_brands_rare_words_and_long_names(monkeypatch):
    monkeypatch.setattr(icons, "WORD_COUNT", 2)
    names = {
        "ph": {"bell", "bell-fill", "cat", "bell-cat-bell-cat-bell", "quokka", "bell-logo"},
        "noto": {"bell", "cat", "cat-light-skin-tone"},
        "fluent-emoji-flat": {"cat", "cat-medium-dark", "cat-light"},
        "fluent-emoji": {"cat", "cat-dark"},
        "tabler": {"brand-bell", "bell-2"},
    }
    chosen = icons.select(names, {p: set() for p in names})
    assert {(i.pack, i.name) for i in chosen} == {
        ("ph", "bell"), ("ph", "bell-fill"), ("ph", "cat"), ("noto", "bell"), ("noto", "cat"),
        ("fluent-emoji-flat", "cat"), ("fluent-emoji", "cat"), ("tabler", "bell-2"),
    }  # fmt: skip


def test_select_caps_each_pack_the_same_way_twice(monkeypatch):
    monkeypatch.setattr(icons, "ICONS_A_PACK", 3)
    names = {"ph": {f"bell-{k}" for k in range(9)} | {"bell-cat", "cat-bell", "cat"}}
    monkeypatch.setattr(icons, "WORD_COUNT", 1)
    first, second = (icons.select(names, {"ph": set()}) for _ in range(2))
    assert first == second and len(first) == 3


def test_render_is_black_on_white_and_keeps_its_aspect():
    pytest.importorskip("resvg_py")
    pack = {"icons": {"a": {"body": '<path fill="currentColor" d="M0 0h32v16H0z"/>', "width": 32}}}
    picture = icons.render(pack, "a")  # twice as wide as high: white bands above and below
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert (
        (picture[:14] == 255).all() and (picture[50:] == 255).all() and (picture[18:46] == 0).all()
    )


def test_draw_moves_but_never_cuts_or_mirrors():
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[:, :32] = 0  # ink to the very edge, on the left
    assert (icons.draw(picture, 1.0, 0.3, 0.7)[3:-3, 3:13] < 8).all()
    ink = [
        (255.0 - icons.draw(picture, 1.09, x, y)).sum() * 1.09**2 for x in (0, 1) for y in (0, 1)
    ]
    np.testing.assert_allclose(ink, 255.0 * 32 * 16 * 3, rtol=0.03)
    for x in (0.0, 1.0):
        ink = 255.0 - icons.draw(picture, 1.09, x, 0.5)
        assert ink[:, :16].sum() > 5 * ink[:, 16:].sum()


@pytest.fixture
def two_packs(tmp_path, monkeypatch):
    """`ph` black and `noto` red squares under a cache folder, as the npm packages lay them out."""
    monkeypatch.setattr(packages, "ICON_PACKAGES", {"ph": "1", "noto": "2"})
    monkeypatch.setattr(packages, "fetch_icons", lambda cache, wanted: cache / "icons")
    monkeypatch.setattr(icons, "WORD_COUNT", 1)
    for pack, colour in (("ph", "currentColor"), ("noto", "#f00")):
        folder = tmp_path / "icons" / pack / "package"
        folder.mkdir(parents=True)
        body = f'<path fill="{colour}" d="M2 2h12v12H2z"/>'
        drawn = {name: {"body": body} for name in ("bell", "cat", "dog")} | {
            "empty": {"body": "<g/>"}
        }
        (folder / "icons.json").write_text(json.dumps({"icons": drawn}))
        info = {"license": {"spdx": "MIT"}, "author": {"name": "A. Nyone"}}
        (folder / "info.json").write_text(json.dumps(info))
    return tmp_path


def test_load_icons_keeps_colour_drops_blanks_and_reuses_its_cache(two_packs, monkeypatch):
    pytest.importorskip("resvg_py")
    found, pictures, facts = icons.load_icons(two_packs)
    assert [i.name for i in found] == ["bell", "cat", "dog"] * 2
    assert pictures[0, 32, 32].tolist() == [255, 0, 0] and pictures[3, 32, 32].tolist() == [0, 0, 0]
    assert facts["noto"] == {
        "version": "2",
        "icons": 3,
        "licence": "MIT",
        "licence_url": "",
        "author": "A. Nyone",
    }
    monkeypatch.setattr(icons, "render", None)  # a second rendering would fail
    again = icons.load_icons(two_packs)
    assert again[0] == found and np.array_equal(again[1], pictures)


def test_make_images_weighs_packs_alike_and_repeats_exactly():
    found = [icons.Icon("ph", f"i{k}", f"i{k}", "outline") for k in range(5)] + [
        icons.Icon("noto", "i", "i", "x")
    ]
    pictures = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    images, index = icons.make_images(found, pictures, 10, seed=3)
    again, _ = icons.make_images(found, pictures, 10, seed=3)
    assert images.shape == (20, 32, 32, 3) and np.bincount(index).tolist() == [2, 2, 2, 2, 2, 10]
    assert np.array_equal(images, again)


def test_held_out_subjects_cover_every_style_of_a_subject():
    found = [icons.Icon(p, f"s{k}", f"s{k}", "x") for p in ("ph", "noto") for k in range(50)]
    held = icons.held_out_subjects(found, share=0.2)
    assert held.sum() == 20 and np.array_equal(held[:50], held[50:])
