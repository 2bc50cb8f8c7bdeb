"""COCO files: objects, images under several ids, missing images."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sfumato
from sfumato.records import load_records

from .sources import coco, pictures, pixels, png, put, refused


def test_objects_need_a_declared_rule(tmp_path):
    pictures(tmp_path, 3)
    coco(tmp_path)
    refused("--objects largest", tmp_path)
    assert "--objects" in (sfumato.inspect(tmp_path).refused or "")
    found = sfumato.inspect(tmp_path, objects="crops")
    assert found.n == 6 and set(found.class_counts) | set(found.few) == {"cat", "dog"}
    largest = load_records(tmp_path, objects="largest", yes_public=True)
    assert largest.classes == ("dog",) and largest.n == largest.n_units == 3


def test_crops_are_parts_of_their_image_and_of_its_unit(tmp_path):
    pictures(tmp_path, 3)
    coco(tmp_path)
    found = load_records(tmp_path, objects="crops", yes_public=True)
    assert (found.n, found.n_units, found.max_per_unit) == (6, 3, 2)
    for slot in range(6):
        image, k = divmod(slot, 2)
        part = pixels(image)[k : k + 12, k : min(16, 12 + 2 * k)]
        np.testing.assert_array_equal(found.pixels(slot), part)
    assert len(set(found.fingerprints)) == 6 and len(set(found.facts.seals)) == 3
    # the image may not change under a crop, nor be another unit's
    put(tmp_path / "0.png", png(9))
    assert found.load(range(6), 16)[1].tolist() == [False] * 2 + [True] * 4
    assert load_records(tmp_path, objects="crops", unit="who", yes_public=True).n_units == 2


@pytest.mark.parametrize("objects", [None, "largest", "crops"])
def test_an_image_under_two_ids_is_one_unit(tmp_path, objects):
    pictures(tmp_path, 3)
    path = coco(tmp_path, kinds=("cat",))
    body = json.loads(path.read_text())
    twice = {"id": 9, "file_name": "1.png", "who": "P7"}
    thing = {"id": 9, "image_id": 9, "category_id": 0, "bbox": [2, 2, 9, 9]}
    body["images"].append(twice), body["annotations"].append(thing)
    path.write_text(json.dumps(body))
    found = load_records(tmp_path, objects=objects, yes_public=True)
    assert (found.n, found.n_units) == (4, 3) and found.unit[1] == found.unit[3]
    refused("1 images stand in rows of different units", tmp_path, objects=objects, unit="who")


def test_coco_without_its_images_or_ids(tmp_path):
    path = coco(tmp_path)
    refused("none of the 3 images that coco.json names is there", tmp_path)
    pictures(tmp_path, 2)
    found = load_records(tmp_path, objects="largest", max_bad=0.5, yes_public=True)
    assert found.n == 3 and found.facts.bad == {"missing file": 1}
    for damage in ('{"images": [', path.read_text().replace('"image_id": 0', '"image_id": 77')):
        path.write_text(damage)
        refused("is not a whole COCO file", path)
    out = path.read_text().replace('"image_id": 77', '"image_id": 0').replace("0.png", "../0.png")
    path.write_text(out)
    refused("without '..'", path)
