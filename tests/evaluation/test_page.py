"""The owner's page: pictures by class at a size that can be judged, marked, named, and nothing in
it is read as HTML.
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.evaluation import UtilityRow
from sfumato.evaluation.page import DECISIONS, by_class, page
from sfumato.evaluation.tables import as_text
from sfumato.options.parse import rounded
from sfumato.pages import ENLARGE, STYLE
from sfumato.pages.pictures import SIDE


def parsed(text):
    return ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))


def shown(text) -> list[np.ndarray]:
    found = re.findall(r"base64,([^\"]+)", text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_the_first_of_every_class_are_shown_under_its_name():
    images = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1).repeat(3, 3)
    labels = np.array([0] * 5 + [2] * 4)
    found = by_class(images, labels, ("a", "b", "c"), most=3)
    assert {name: own[:, 0, 0, 0].tolist() for name, own in found.items()} == {
        "a": [0, 1, 2],
        "c": [5, 6, 7],
    }


def test_a_page_has_pictures_side_by_side_figures_and_says_that_it_is_private():
    rng = np.random.default_rng(0)
    pictures = {
        row: {"<a&b>": rng.integers(0, 255, (2, 4, 4, 3), np.uint8)}
        for row in ("tested on", "public_only", "synthetic")
    }
    score = UtilityRow("cnn", 0.5, 0.01, (0.5,), (0.4,), 8, 8)
    shares = {"precision": 0.5, "recall": 0.25, "density": 1.5, "coverage": 0.125}
    kernel = {"mean": 0.51234567, "std": None, "blocks": 1, "block_size": 9}
    figures = as_text(
        {"synthetic": 1200, "real": 7},
        {"synthetic": [score]},
        {"real": {"FD-x": 1.23456, "KD-x": kernel, "manifold": shares}},
        {"noise_only": 0.126},
    )
    text = page("run <b>", ["Your images added <nothing>."], figures, pictures)
    root = parsed(text)
    rows = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert rows[0][:5] == ["trained on", "images", "cnn, % right", "Frechet distance (x)",
                           "kernel distance (x)"]  # fmt: skip
    assert rows[1][:3] == ["synthetic (the release)", "1,200", "50.0 ± 1.0"]
    assert rows[2][3:6] == ["1.2", "0.51", "0.50"] and rows[3][-1] == "0.13"
    assert "{" not in text.replace(STYLE, "")  # no raw dictionaries
    images = list(root.iter("img"))
    assert len(images) == 6
    assert images[0].get("alt") == "real test images, class <a&b>, picture 1 of 2"
    assert all(np.array_equal(a, b) for a, b in zip(shown(text), pictures["tested on"]["<a&b>"]))
    captions = [caption.text for caption in root.iter("figcaption")]
    assert captions == ["real test images", "public base alone", "synthetic (the release)"]
    assert "PRIVATE: run &lt;b&gt;" in text and "No epsilon covers it" in text
    assert "added &lt;nothing&gt;" in text


def test_large_pictures_are_made_smaller():
    large = np.zeros((1, 600, 600, 3), np.uint8)
    (picture,) = shown(page("t", [], {}, {"synthetic": {"a": large}}))
    assert picture.shape[:2] == (SIDE, SIDE)


def test_numbers_are_rounded():
    assert [rounded(x) for x in (0.0123, 1.26, 15.17, 99.7, 151.7, 14_322.0, -0.4)] == [
        "0.012",
        "1.3",
        "15",
        "100",
        "152",
        "14,322",
        "-0.4",
    ]


@pytest.mark.parametrize("place", ("evaluation", "guarantee", "privacy"))
def test_pages_and_the_private_page_say_the_same_of_what_may_follow(place):
    """Handing over or not counts as a look; a choice among several that is not said voids."""
    text = (Path(__file__).parents[2] / "docs" / f"{place}.md").read_text("utf-8")
    assert DECISIONS in " ".join(text.split())
    own = page("t", [], {}, {})
    assert DECISIONS.replace("`", "") in own
    assert "choosing what to release by it would void" not in own


def test_what_can_be_clicked_is_not_said_on_paper():
    assert ENLARGE in page("t", [], {}, {})
    printed = STYLE[STYLE.index("@media print") :]
    assert ".screen { display: none; }" in printed and 'class="screen"' in ENLARGE
    for file in sorted((Path(sfumato.__file__).parent).rglob("*.j2")):
        text = file.read_text("utf-8")
        assert text.count("enter key enlarges") == text.count(ENLARGE), file.name
