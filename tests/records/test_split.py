"""A split: every unit's side follows from its own value and a secret key alone, in every layout."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.errors import DataError, SfumatoError
from sfumato.records import BOTH, Split, load_records, read_split

SPLIT = Split(bytes(range(32)), 0.4, None)


def png(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def folders(root, seeds):
    for seed in seeds:
        (root / "ab"[seed % 2]).mkdir(parents=True, exist_ok=True)
        (root / "ab"[seed % 2] / f"{seed}.png").write_bytes(png(seed))
    return root


def table(root, seeds, unit=lambda seed: f"p{seed // 2}"):
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{seed}.png,{'ab'[seed % 2]},{unit(seed)}" for seed in seeds]
    for seed in seeds:
        (root / f"{seed}.png").write_bytes(png(seed))
    (root / "metadata.csv").write_text("\n".join(["file_name,label,patient", *rows]))
    return root


def npz(root, seeds):
    root.mkdir(parents=True, exist_ok=True)
    images = np.stack([np.asarray(Image.open(io.BytesIO(png(seed)))) for seed in seeds])
    np.savez(root / "set.npz", images=images, labels=np.array([seed % 2 for seed in seeds]))
    return root / "set.npz"


def idx(root, seeds):
    root.mkdir(parents=True, exist_ok=True)
    images = np.stack([np.asarray(Image.open(io.BytesIO(png(seed))))[..., 0] for seed in seeds])
    labels = np.array([seed % 2 for seed in seeds], np.uint8)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        head = b"\0\0\x08" + bytes([array.ndim])
        head += b"".join(size.to_bytes(4, "big") for size in array.shape)
        (root / name).write_bytes(head + array.tobytes())
    return root


def parquet(root, seeds):
    root.mkdir(parents=True, exist_ok=True)
    body = {"image": [png(seed) for seed in seeds], "label": ["ab"[seed % 2] for seed in seeds]}
    pq.write_table(pa.table(body), root / "set.parquet", row_group_size=4)
    return root


LAYOUTS = {"folders": folders, "table": table, "npz": npz, "idx": idx, "parquet": parquet}


def pictures(records) -> set[bytes]:
    """Which pictures a part holds, by the pixels that it really gives."""
    images, good = records.load(np.arange(records.n), 12)
    assert good.all()
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_parts_every_layout_and_moves_nobody_else(layout, tmp_path):
    make = LAYOUTS[layout]
    seeds = list(range(24))
    parts = {}
    for name, chosen in {"all": seeds, "fewer": seeds[5:], "turned": seeds[::-1]}.items():
        source = make(tmp_path / name, chosen)
        train, test = (load_records(source, split=SPLIT, part=part) for part in ("train", "test"))
        assert train.n + test.n == len(chosen) and train.n_units == train.n
        assert train.held_out == 0.4 and train.usable.all()
        parts[name] = (pictures(train), pictures(test))
        whole = load_records(source)
        assert parts[name][0] | parts[name][1] == pictures(whole)
        assert not parts[name][0] & parts[name][1]
        ordered = train.rearranged(np.arange(train.n)[::-1])
        assert pictures(ordered) == parts[name][0]
    assert parts["turned"] == parts["all"] and all(parts["all"])
    gone = pictures(load_records(tmp_path / "all" / ("set.npz" if layout == "npz" else "")))
    gone -= parts["fewer"][0] | parts["fewer"][1]
    assert len(gone) == 5
    assert parts["fewer"] == (parts["all"][0] - gone, parts["all"][1] - gone)


def test_labels_units_and_captions_stay_with_their_pictures(tmp_path):
    source = table(tmp_path / "t", range(24))
    rows = (source / "metadata.csv").read_text().splitlines()
    said = [rows[0] + ",text"] + [f"{row},about {row.split('.')[0]}" for row in rows[1:]]
    (source / "metadata.csv").write_text("\n".join(said))
    whole = load_records(source, caption_column="text")
    of = dict(zip(whole.fingerprints, zip(whole.labels, whole.captions), strict=True))
    for part in ("train", "test"):
        found = load_records(source, caption_column="text", split=SPLIT, part=part)
        assert [of[p] for p in found.fingerprints] == list(zip(found.labels, found.captions))


def test_a_units_images_stay_together_whatever_its_spelling(tmp_path):
    spelt = ("P{}", " p{} ", "Ｐ{}")
    source = table(tmp_path / "t", range(60), lambda seed: spelt[seed % 3].format(1 + seed // 3))
    by_patient = replace(SPLIT, unit="patient")
    found = [
        load_records(source, split=by_patient, part=p, unit="patient") for p in ("train", "test")
    ]
    assert [r.n for r in found] == [3 * r.n_units for r in found] and all(r.n for r in found)
    # the split's own unit is taken where none is named
    same = load_records(source, split=by_patient)
    assert same.unit_column == "patient" and same.n_units == found[0].n_units


def test_copies_of_a_file_are_on_one_side_and_a_name_decides_nothing(tmp_path):
    source = folders(tmp_path / "f", range(20))
    for seed in range(20):
        place = source / "ab"[seed % 2]
        shutil.copy(place / f"{seed}.png", place / f"copy-of-{99 - seed}.png")
    found = load_records(source, split=SPLIT, part="train")
    assert found.n == 2 * len(set(found.fingerprints))


def test_the_share_is_a_chance_for_each_and_another_key_is_another_split():
    values = [b"%d" % i for i in range(20_000)]
    sides = {}
    for share in (0.05, 0.2, 0.5):
        split = replace(SPLIT, share=share)
        sides[share] = split.held_out(split.codes(values, "unit"))
        error = (share * (1 - share) / len(values)) ** 0.5
        assert abs(sides[share].mean() - share) < 4 * error
        assert np.array_equal(sides[share], split.held_out(split.codes(values, "unit")))
    assert not (sides[0.05] & ~sides[0.2]).any()  # a larger share keeps who was held out before
    other = replace(SPLIT, key=bytes(32), share=0.5)
    same = other.held_out(other.codes(values, "unit")) == sides[0.5]
    assert 0.45 < same.mean() < 0.55
    assert Split.draw(0.2, None).key != Split.draw(0.2, None).key


def test_what_cannot_be_read_stays_a_zero_slot_of_training(tmp_path):
    source = table(tmp_path / "t", range(24))
    rows = (source / "metadata.csv").read_text() + "\ngone.png,a,px\nalso-gone.png,b,"
    (source / "metadata.csv").write_text(rows)
    found = [
        load_records(source, split=SPLIT, part=part, max_bad=0.5, classes=["a", "b"])
        for part in ("train", "test")
    ]
    assert [int((~r.usable).sum()) for r in found] == [2, 0]
    by_patient = replace(SPLIT, unit="patient")
    left = load_records(source, split=by_patient, max_bad=0.5, classes=["a", "b"])
    assert left.facts.bad["missing unit"] == 1


def test_an_undecodable_file_has_a_side_of_its_own_bytes(tmp_path):
    source = folders(tmp_path / "f", range(12))
    for i in range(12):
        (source / "a" / f"bad{i}.png").write_bytes(b"no picture %d" % i)
    said = {"split": SPLIT, "max_bad": 0.9, "classes": ["a", "b"]}
    counts = [load_records(source, part=p, **said).n for p in ("train", "test")]
    bad = [int((~load_records(source, part=p, **said).usable).sum()) for p in ("train", "test")]
    assert sum(counts) == 24 and sum(bad) == 12 and all(bad)
    (source / "a" / "bad3.png").rename(source / "b" / "renamed.png")
    assert [load_records(source, part=p, **said).n for p in ("train", "test")] == counts


def test_the_class_list_is_that_of_the_training_part(tmp_path):
    source = folders(tmp_path / "f", range(24))
    (source / "only").mkdir()
    held = next(
        seed
        for seed in range(100, 200)
        if SPLIT.held_out(SPLIT.codes([__import__("hashlib").sha256(png(seed)).digest()], "image"))
    )
    (source / "only" / "x.png").write_bytes(png(held))
    found = load_records(source, split=SPLIT)
    assert found.classes == ("a", "b") and not found.few


def test_a_file_is_private_and_kept(tmp_path):
    source = folders(tmp_path / "f", range(24))
    both = load_records(source, split=SPLIT, part=BOTH)
    made = SPLIT.made_for(both.facts.codes, None)
    made.save(tmp_path / "s.json")
    if sys.platform != "win32":
        assert stat.S_IMODE(os.stat(tmp_path / "s.json").st_mode) == 0o600
    again = read_split(tmp_path / "s.json")
    assert (again.key, again.share, again.unit, again.marks) == (
        made.key,
        made.share,
        made.unit,
        made.marks,
    )
    assert made.key.hex() not in repr(made) and "key" not in str(made)
    with pytest.raises(SfumatoError, match="exists: another key"):
        made.save(tmp_path / "s.json")
    assert read_split(tmp_path / "s.json").key == made.key


def test_a_split_made_for_another_set_is_refused_and_a_grown_one_is_not(tmp_path):
    source = folders(tmp_path / "f", range(24))
    split = SPLIT.made_for(load_records(source, split=SPLIT, part=BOTH).facts.codes, None)
    folders(source, range(24, 72))  # three times as many
    assert load_records(source, split=split).n > 24
    for seed in range(0, 11):
        (source / "ab"[seed % 2] / f"{seed}.png").unlink()
    assert load_records(source, split=split).n
    other = folders(tmp_path / "other", range(100, 124))
    with pytest.raises(DataError, match="made for another set"):
        load_records(other, split=split)


@pytest.mark.parametrize(
    "split, said, words",
    [
        (
            None,
            {"unit": "patient"},
            "single images apart and the images are read by --unit patient",
        ),
        ("patient", {"unit": "label"}, "units of 'patient' apart"),
    ],
)
def test_another_unit_than_the_splits_is_refused(split, said, words, tmp_path):
    source = table(tmp_path / "t", range(24))
    with pytest.raises(SfumatoError, match=words):
        load_records(source, split=replace(SPLIT, unit=split), **said)


def test_a_split_in_a_folder_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(SfumatoError, match="there is no folder .*deep: make it"):
        SPLIT.save(tmp_path / "deep" / "split.json")


def test_a_part_without_images_is_refused(tmp_path):
    source = folders(tmp_path / "f", range(4))
    for share, part in ((1e-9, "test"), (1 - 1e-9, "train")):
        with pytest.raises(DataError, match="leaves no"):
            load_records(source, split=replace(SPLIT, share=share), part=part)


@pytest.mark.parametrize(
    "body, words",
    [
        ("", "is not a split"),
        ("[]", "is not a split"),
        ("{}", "is not a split"),
        ({"format": 2}, "of another version"),
        ({"key": "00"}, "is damaged"),
        ({"test": 1.5}, "is damaged"),
        ({"test": "0.2"}, "is damaged"),
        ({"marks": ["-1"]}, "is damaged"),
        ({"marks": [1]}, "is damaged"),
        ({"unit": 3}, "is damaged"),
    ],
)
def test_a_bad_split_file_is_refused_by_rule(body, words, tmp_path):
    SPLIT.save(tmp_path / "good.json")
    good = json.loads((tmp_path / "good.json").read_text())
    text = body if isinstance(body, str) else json.dumps(good | body)
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SfumatoError, match=words) as refused:
        load_records(folders(tmp_path / "f", range(8)), split=tmp_path / "s.json")
    assert refused.value.exit_code == 2 and good["key"] not in str(refused.value)
    with pytest.raises(SfumatoError, match="cannot be read"):
        load_records(tmp_path / "f", split=tmp_path / "gone.json")


@pytest.mark.parametrize("share", (0, 1, -0.1, 20, float("nan"), True, "0.2"))
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(SfumatoError, match="must be a share"):
        Split.draw(share, None)
