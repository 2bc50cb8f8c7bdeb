import base64
import io
import re

import numpy as np
from markupsafe import Markup
from PIL import Image

from sfumato.pages import STYLE, Picture, beside, counted, grid, page


def noise(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def images(text: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]*)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_a_small_picture_is_shown_pixel_by_pixel_as_array_or_png():
    for given in (noise(32), png(noise(32))):
        text = grid([Picture(given, "alt")])
        assert np.array_equal(np.asarray(images(text)[0]), noise(32))
        assert 'class="few"' in text and 'width="32" height="32"' in text


def test_a_large_picture_is_reduced_so_that_the_page_stays_small():
    text = grid([Picture(noise(1024), "alt")])
    assert images(text)[0].size == (256, 256) and 'class="few"' not in text
    assert len(text) < 100_000


def test_pictures_are_at_least_96_pixels_wide_and_wrap_and_open_without_a_script():
    text = page("t", grid([Picture(noise(8), f"picture {i}", f"seed {i}") for i in range(12)]))
    assert "repeat(auto-fill, minmax(6rem, 1fr))" in text and "font: 16px" in text
    assert "image-rendering: pixelated" in text
    assert text.count("<details><summary><img") == 12 and "<p>seed 11</p>" in text
    assert "<script" not in text and "http" not in text and "@import" not in text


def test_words_are_escaped_and_a_file_beside_the_page_is_linked():
    text = grid([Picture(noise(8), '"><b>x', "<i>", "train/a%20b/000001.png")])
    assert "<b>" not in text and "<i>" not in text
    assert '<a href="train/a%20b/000001.png">Open the file</a>' in text


def test_columns_stand_side_by_side_each_under_its_name():
    text = beside({"private": [Picture(noise(8), "a")], "public <base>": []})
    assert text.count("<figure>") == 2 and "public &lt;base&gt;" in text
    assert text.index("private") < text.index('alt="a"') < text.index("public")


def test_a_page_has_language_title_and_the_common_style():
    text = page("A & B", Markup("<h1>x</h1>"), style=".own { color: red; }")
    assert '<html lang="en">' in text and "<title>A &amp; B</title>" in text
    assert STYLE in text and ".own { color: red; }" in text and "<h1>x</h1>" in text


def test_numbers_are_words_up_to_ten():
    assert [counted(n, "synthetic ") for n in (1, 3, 12)] == [
        "one synthetic picture", "three synthetic pictures", "12 synthetic pictures",
    ]  # fmt: skip


def _channel(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return sum(w * _channel(v) for w, v in zip((0.2126, 0.7152, 0.0722), parts))


def test_every_colour_of_words_has_a_contrast_of_four_and_a_half():
    day, night, paper = re.findall(r":root \{([^}]*)\}", STYLE)
    first = dict(re.findall(r"--(\w+): (#\w{6})", day))
    for block in (day, night, paper):
        colours = first | dict(re.findall(r"--(\w+): (#\w{6})", block))
        for ground in ("paper", "card"):
            for word in ("ink", "soft", "accent", "alarm"):
                a, b = sorted((luminance(colours[word]), luminance(colours[ground])))
                assert (b + 0.05) / (a + 0.05) >= 4.5, (word, ground)
