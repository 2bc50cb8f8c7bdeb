"""The sets that no base has seen, read from packages made here; what is no array is not opened."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import pickle
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import DataError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def sets(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("packed_sets")


def png(colour, size=(72, 72)) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", size, colour).save(out, "png")
    return out.getvalue()


def write_animals(folder: Path, images, labels) -> None:
    with zipfile.ZipFile(folder / "animal_mnist-0.4-py3-none-any.whl", "w") as wheel:
        for name, value in (("data", images), ("label", labels)):
            inside = f"animal_mnist/data/Animal_MNIST/animal_{name}_version_3.gz"
            wheel.writestr(inside, gzip.compress(pickle.dumps(value, protocol=4)))


def test_animals_are_split_class_by_class(sets, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
    write_animals(tmp_path, images, np.arange(100) // 10)
    train, test = (sets.read("animals", split, tmp_path) for split in ("train", "test"))
    assert train.classes == test.classes and train.classes[0] == "bear"
    assert np.bincount(train.labels).tolist() == [8] * 10
    assert np.bincount(test.labels).tolist() == [2] * 10
    assert np.array_equal(test.array[0], images[4]) and np.array_equal(train.array[4], images[5])


def test_a_pickle_that_runs_something_is_refused(sets, tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("run",))

    write_animals(tmp_path, Runs(), np.zeros(1))
    with pytest.raises(DataError, match="no array"):
        sets.read("animals", "train", tmp_path)


def test_emoji_come_on_white_and_without_skin_tones(sets, tmp_path):
    listed = [
        {"image": f"{k}.png", "category": category}
        for k, category in enumerate(["Flags"] * 6 + ["Component"] + ["Food & Drink"] * 5)
    ]
    with tarfile.open(tmp_path / "emoji-datasource-twitter-16.0.0.tgz", "w:gz") as tar:
        parts = {"package/emoji.json": json.dumps(listed).encode()}
        parts |= {f"package/img/twitter/64/{k}.png": png((0, 0, 0, 0)) for k in range(12)}
        parts["package/img/twitter/64/0-tone.png"] = png("red")
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    train, test = (sets.read("emoji", split, tmp_path) for split in ("train", "test"))
    assert (train.n, test.n) == (9, 2) and (train.array == 255).all()
    assert [train.classes[k] for k in test.labels] == ["flag", "food"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_clip_art_is_that_of_the_reserved_folder_alone(sets, tmp_path):
    from recipes import packages

    assert "recreation" in packages.RESERVED_CLIP_ART
    root = tmp_path / "tree/usr/share/openclipart/png"
    for k in range(5):
        for place in ("recreation/toys", "animals"):
            (root / place).mkdir(parents=True, exist_ok=True)
            (root / place / f"{k}.png").write_bytes(png("red" if place == "animals" else "blue"))
    (root / "recreation/toys/9.png").write_bytes(b"no picture")
    control = tmp_path / "tree/DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        "Package: openclipart-png\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n"
    )
    file = tmp_path / "openclipart-png_1_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", str(tmp_path / "tree"), str(file)], check=True, capture_output=True
    )
    train, test = (sets.read("clip-art", split, tmp_path) for split in ("train", "test"))
    assert (train.n, test.n) == (4, 1) and set(train.labels) == {train.classes.index("toy")}
    assert (train.array == (0, 0, 255)).all()


def test_a_missing_package_is_named_with_its_cure(sets, tmp_path):
    for name in sets.FILES:
        with pytest.raises(DataError, match="packed_sets.py"):
            sets.read(name, "train", tmp_path)


def test_the_bases_know_the_words_but_for_two(sets):
    from sfumato.bases import load_base

    classes = {"animals": sets.ANIMALS, "emoji": sets.EMOJI, "clip-art": sets.CLIP_ART}
    for name, prompts in sets.PROMPTS.items():
        base = load_base(name)
        assert prompts.keys() == sets.FILES.keys()
        for data, prompt in prompts.items():
            said = [prompt.replace(",", "").replace("{class}", word) for word in classes[data]]
            assert set(base.unknown_words(said)) <= {"sheep", "animal"}, (name, data)
