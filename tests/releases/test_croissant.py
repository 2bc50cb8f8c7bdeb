"""croissant.json is valid for the format's own library, which reads every record from it."""

from __future__ import annotations

import json
from io import BytesIO

import mlcroissant
import numpy as np
import pytest
from PIL import Image

from sfumato.releases import croissant, marked_png, write_release
from sfumato.synthesis.dataset import _Parquet

# What NeurIPS asks of a data set's metadata; schema.org's name for "drawn by a trained model".
ASKED = {
    "rai:dataBiases",
    "rai:dataLimitations",
    "rai:dataSocialImpact",
    "rai:dataUseCases",
    "rai:hasSyntheticData",
    "rai:personalSensitiveInformation",
    "prov:wasDerivedFrom",
    "prov:wasGeneratedBy",
    "digitalSourceType",
}


def read(release, monkeypatch) -> list[dict]:
    monkeypatch.chdir(release)
    dataset = mlcroissant.Dataset(jsonld="croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    rows = [
        {name.removeprefix("train/"): value for name, value in row.items()}
        for row in dataset.records("train")
    ]
    return sorted(rows, key=lambda row: row["seed"])


def as_text(value) -> str:
    return value.decode() if isinstance(value, bytes) else value


def as_picture(value) -> np.ndarray:
    image = value if isinstance(value, Image.Image) else Image.open(BytesIO(value))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("table", ["metadata.jsonl", "train/metadata.jsonl"])
def test_every_picture_of_a_folder_is_read_beside_its_row(kit, tmp_path, monkeypatch, table):
    out = write_release(kit.images(tmp_path / "s", table), tmp_path / "release", **kit.facts())
    rows = read(out, monkeypatch)
    assert len(rows) == 20
    for i, row in enumerate(rows):
        assert as_text(row["label"]) == kit.classes[i % 2] and row["seed"] == i
        assert as_text(row["prompt"]) == f"a picture of a {kit.classes[i % 2]}"
        assert (as_picture(row["image"])[0, 0] == (12 * i, 90, 200)).all()


def test_every_picture_of_the_shards_is_read(kit, tmp_path, monkeypatch):
    (tmp_path / "s").mkdir()
    writer = _Parquet(tmp_path / "s", 20, (0, 1))
    for i in range(20):
        image = np.full((8, 8, 3), 12 * i, dtype=np.uint8)
        label = kit.classes[i % 2]
        writer.add(i, marked_png(image), label, f"a picture of a {label}", i % 2, i)
    writer.close()
    out = write_release(tmp_path / "s", tmp_path / "release", **kit.facts())
    rows = read(out, monkeypatch)
    assert [as_text(row["label"]) for row in rows] == [kit.classes[i % 2] for i in range(20)]
    assert all((as_picture(row["image"]) == 12 * i).all() for i, row in enumerate(rows))


def test_what_a_catalogue_asks_is_there_and_the_library_keeps_it(finished, monkeypatch):
    monkeypatch.chdir(finished)
    said = json.loads((finished / "croissant.json").read_text("utf-8"))
    assert ASKED <= set(said) and all(said[name] for name in ASKED)
    metadata = mlcroissant.Dataset(jsonld="croissant.json").metadata
    assert metadata.data_biases == list(croissant.BIASES)
    assert metadata.data_social_impact == croissant.IMPACT
    assert metadata.data_collection_type == ["Synthetic data"]
    assert said["digitalSourceType"] == croissant.SYNTHETIC
