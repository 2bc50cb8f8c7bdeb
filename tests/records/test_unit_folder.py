"""`--unit folder`: whoever has a folder of their own is one unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.records import load_records


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(path)


def test_folders_of_single_people_are_units_of_one_class(tmp_path):
    for person in range(4):
        for i in range(3):
            picture(tmp_path / f"Doe^{person}" / f"series {i % 2}" / f"{i}.png", 10 * person + i)
    found = load_records(tmp_path, unlabelled=True, unit="folder")
    assert (found.n, found.n_units, found.max_per_unit) == (12, 4, 3)
    assert found.classes == ("image",) and found.unit_column == "folder" and found.usable.all()


def test_below_class_folders_a_person_in_two_classes_is_one_unit(tmp_path):
    for kind, people in (("benign", "abc"), ("malignant", "cde")):
        for person in people:
            for i in range(2):
                picture(tmp_path / kind / person / f"{i}.png", ord(person) + i)
    found = load_records(tmp_path, unit="folder")
    assert found.classes == ("benign", "malignant")
    assert (found.n, found.n_units, found.max_per_unit) == (12, 5, 4)


def test_an_image_without_such_a_folder_has_no_unit(tmp_path):
    for i in range(3):
        for person in "ab":
            picture(tmp_path / "benign" / person / f"{i}.png", i + ord(person))
    picture(tmp_path / "benign" / "loose.png", 200)
    found = load_records(tmp_path, unit="folder", max_bad=0.5, yes_public=True)
    assert found.facts.bad == {"missing unit": 1} and int(found.usable.sum()) == 6


def test_another_column_is_still_refused(tmp_path):
    picture(tmp_path / "a" / "0.png", 1)
    with pytest.raises(SfumatoError, match="class folders have no columns"):
        load_records(tmp_path, unit="patient")
