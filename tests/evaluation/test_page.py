"""The owner's page: one strip a row, in a fair order of classes, marked, and nothing in it is read
as HTML.
"""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from sfumato.evaluation import UtilityRow
from sfumato.evaluation.page import as_text, few, page


def test_the_first_of_every_class_come_first():
    labels = np.array([0] * 5 + [1] * 3 + [2])
    assert few(labels, 6).tolist() == [0, 5, 8, 1, 6, 2]
    assert few(np.array([1, 0, 1, 0]), 10).tolist() == [1, 0, 3, 2]


def test_a_page_holds_pictures_and_figures_and_says_that_it_is_private():
    rng = np.random.default_rng(0)
    pictures = {"synthetic": rng.integers(0, 255, (3, 4, 4, 3), np.uint8)}
    score = UtilityRow("cnn", 0.5, None, (0.5,), (0.4,), 8, 8)
    figures = as_text(
        {"synthetic": 1200, "real": 7}, {"synthetic": [score]},
        {"real": {"FD-x": 1.23456, "KD-x": {"mean": 0.5}, "manifold": {}}}, {"noise_only": 0.126},
    )  # fmt: skip
    text = page("run <b>", figures, pictures)
    root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
    cells = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert cells[0][2:5] == ["images", "cnn, %", "FD-x"]
    assert (
        cells[1][2:4] == ["1,200", "50.00"]
        and cells[2][4:6] == ["1.235", "0.5"]
        and cells[3][-1] == "0.13"
    )
    (strip,) = re.findall(r"base64,([^\"]+)", text)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip))))
    assert np.array_equal(shown, np.concatenate(list(pictures["synthetic"]), 1))
    assert "PRIVATE: run &lt;b&gt;" in text and "No epsilon covers it" in text
