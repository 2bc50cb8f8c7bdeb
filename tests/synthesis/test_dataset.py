"""Synthesis: shards fit together, and a data set appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from sfumato.bases import load_base
from sfumato.errors import SfumatoError
from sfumato.options import Sampling
from sfumato.releases import marked_png
from sfumato.synthesis import dataset
from sfumato.synthesis.dataset import (
    Classes,
    class_of_each,
    folder_names,
    shard_indices,
    write_dataset,
)
from sfumato.synthesis.sampler import image_seed

CLASSES = ("circle", "cross", "square")


@pytest.fixture(scope="module")
def base(whole_tiny_base):
    return load_base(whole_tiny_base)


def write(
    base, out, n=7, sampling=None, seal=lambda folder, settings: None, shares=(1, 1, 1), **more
):
    return write_dataset(
        base,
        out,
        n=n,
        classes=Classes(CLASSES, CLASSES, shares),
        sampling=sampling or Sampling(steps=2, batch=4),
        encode=marked_png,
        seal=seal,
        **more,
    )


def close(a, b):
    """Equal but for the rounding of batched half-precision kernels."""
    return np.abs(a.astype(int) - b.astype(int)).mean() < 1.5


def test_an_unknown_scheduler_is_refused_before_anything_is_written(base, tmp_path):
    with pytest.raises(SfumatoError, match="--scheduler Magic"):
        write(base, tmp_path / "out", sampling=Sampling(scheduler="Magic"))
    assert not list(tmp_path.iterdir())


def test_shares_are_met_to_one_image_and_any_prefix_is_fair():
    labels = class_of_each(1000, [0.5, 0.3, 0.2])
    assert np.bincount(labels).tolist() == [500, 300, 200]
    for n in (1, 7, 100):
        assert (
            np.abs(np.bincount(labels[:n], minlength=3) - n * np.array([0.5, 0.3, 0.2])).max() < 1.5
        )
    assert np.bincount(class_of_each(10, [2, 2]), minlength=2).tolist() == [5, 5]
    assert not (class_of_each(50, [0, 1, 0]) != 1).any()


@pytest.mark.parametrize("shares", [[-1, 2], [0, 0], [float("nan"), 1], [float("inf"), 1]])
def test_shares_that_make_no_sense(shares):
    with pytest.raises(SfumatoError, match="class shares"):
        class_of_each(4, shares)


def test_shards_partition_the_set():
    parts = [shard_indices(17, (i, 4)) for i in range(4)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(17))
    for bad in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(SfumatoError, match="--shard"):
            shard_indices(17, bad)


def test_shards_hold_the_same_images_as_the_whole(base, tmp_path):
    sampling = Sampling(steps=2, batch=2)
    whole, parts = tmp_path / "whole", [tmp_path / "0", tmp_path / "1"]
    assert write(base, whole, 8, sampling) == 8
    for i, part in enumerate(parts):
        assert write(base, part, 8, sampling, shard=(i, 2)) == 4
    rows = [json.loads(line) for line in (whole / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {r["label"] for r in rows} == set(CLASSES)
    for number, row in enumerate(rows):
        assert row["seed"] == image_seed(0, number)
        image = np.asarray(Image.open(whole / row["file_name"]))
        assert close(image, np.asarray(Image.open(parts[number % 2] / row["file_name"])))


@pytest.mark.parametrize("form", ["imagefolder", "parquet"])
def test_datasets_opens_what_was_written(base, tmp_path, monkeypatch, form):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    out = tmp_path / "out"
    settings = {}
    write(base, out, 7, form=form, seal=lambda folder, s: settings.update(s))
    loaded = datasets.load_dataset(
        *(("imagefolder",) if form == "imagefolder" else (str(out),)),
        **({"data_dir": str(out)} if form == "imagefolder" else {}),
        cache_dir=str(tmp_path / "cache"),
    )
    assert list(loaded) == ["train"] and len(loaded["train"]) == 7
    row, feature = loaded["train"][0], loaded["train"].features["label"]
    assert row["image"].size == (16, 16)
    # the finished release's README makes `datasets` read metadata.jsonl as well
    if form == "imagefolder":
        assert feature.names == list(CLASSES)
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    else:
        rows = list(loaded["train"])
    assert all(r["label"] in CLASSES and r["prompt"] == r["label"] for r in rows)
    assert sorted(r["seed"] for r in rows) == sorted(image_seed(0, i) for i in range(7))
    assert (
        settings["n"] == 7 and settings["shard"] == "0/1" and settings["class_shares"] == "uniform"
    )
    if form == "parquet":
        assert [p.name for p in (out / "data").iterdir()] == ["train-00000-of-00001.parquet"]


def test_parquet_parts_of_all_shards_have_names_of_their_own(base, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "PARQUET_ROWS", 2)
    names = []
    for i in range(2):
        write(base, tmp_path / str(i), 7, form="parquet", shard=(i, 2))
        names += sorted(p.name for p in (tmp_path / str(i) / "data").iterdir())
    assert names == [f"train-{i:05d}-of-00004.parquet" for i in range(4)]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"n": 0}, "at least one"),
        ({"form": "tar"}, "--form tar"),
        ({"shard": (2, 2)}, "--shard"),
        ({"n": 2, "shard": (2, 3)}, "empty"),
        ({"shares": (0, 0, 0)}, "class shares"),
    ],
)
def test_bad_requests_write_nothing(base, tmp_path, more, match):
    with pytest.raises(SfumatoError, match=match):
        write(base, tmp_path / "out", **more)
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_left_alone(base, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SfumatoError, match="exists"):
        write(base, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("form", ["imagefolder", "parquet"])
@pytest.mark.parametrize("moment", ["picture", "seal", "rename"])
def test_a_full_disk_leaves_nothing(base, tmp_path, monkeypatch, form, moment):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    seal = full if moment == "seal" else lambda folder, settings: None
    if moment == "picture":
        monkeypatch.setattr(Image.Image, "save", full)
    if moment == "rename":
        monkeypatch.setattr(type(tmp_path), "rename", full)
    with pytest.raises(SfumatoError, match="No space left"):
        write(base, tmp_path / "out", 3, form=form, seal=seal)
    assert not list(tmp_path.iterdir())


def test_folder_names_are_harmless_and_distinct():
    names = folder_names(["benign", "../up", "a/b", "test", "Benign", "ok 2", "", "é", "class-009"])
    assert names == [
        "class-000",
        "class-001",
        "class-002",
        "class-003",
        "class-004",
        "ok 2",
        "class-006",
        "class-007",
        "class-009",
    ]
    assert len({n.lower() for n in names}) == len(names)
