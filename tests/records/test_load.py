"""Every layout that load_records takes, and every input that it refuses."""

from __future__ import annotations

import gzip
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.records import describe, load_records
from sfumato.records.assemble import number_units

KEY = b"k" * 32


def picture(seed, size=12):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def save(path, seed, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, size)).save(path)


def class_folders(root, classes=("cat", "dog"), each=3):
    for c, name in enumerate(classes):
        for i in range(each):
            save(root / name / f"{i}.png", 10 * c + i)
    return root


def write_table(root, lines, name="metadata.csv", encoding="utf-8"):
    (root / name).write_bytes("\n".join(lines).encode(encoding))


def flat(root, count=4):
    for i in range(count):
        save(root / f"{i}.png", i)
    return root


def refused(cure, *args, **options):
    with pytest.raises(SfumatoError, match=re.escape(cure)) as caught:
        load_records(*args, **options)
    assert "\n" not in str(caught.value) and caught.value.exit_code in (2, 10)
    return str(caught.value)


def test_class_folders(tmp_path):
    records = load_records(class_folders(tmp_path))
    assert (
        records.kind == "folder"
        and records.classes == ("cat", "dog")
        and records.n == records.n_units == 6
    )
    assert records.labels.tolist() == [0, 0, 0, 1, 1, 1] and records.labels.dtype == np.int64
    assert (
        records.unit.tolist() == list(range(6))
        and records.max_per_unit == 1
        and records.usable.all()
    )
    images = records.images([5, 0], 12)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [picture(12), picture(0)])
    assert records.images([], 8).shape == (0, 8, 8, 3)


def test_split_folders_and_numbered_classes(tmp_path):
    class_folders(tmp_path / "train", ("10", "9"))
    class_folders(tmp_path / "test", ("9",), each=2)
    assert load_records(tmp_path).classes == ("9", "10")
    assert load_records(tmp_path, part="test").n == 2
    class_folders(tmp_path / "car")  # are train and test classes, too?
    refused("look like splits, and 1 others", tmp_path, yes_public=True)
    found = load_records(tmp_path, yes_public=True, layout="folders")
    assert found.classes == ("car", "test", "train")
    assert load_records(tmp_path, classes=["car", "test", "train"]).usable.all()


def test_declared_classes_make_other_labels_zero_slots(tmp_path):
    class_folders(tmp_path, ("a", "b", "c"))
    refused("--max-bad", tmp_path, classes=["b", "a"])
    records = load_records(tmp_path, classes=["b", "a"], max_bad=0.5)
    assert records.classes == ("b", "a") and records.n == 9 and records.labels.tolist()[-1] == -1
    assert not records.usable[6:].any() and not records.images([8], 12).any()
    assert records.facts.bad == {"label not in the class list": 3}
    refused("class list is empty", tmp_path, classes=[])
    refused("names a class twice", tmp_path, classes=["a", "a"])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_table(tmp_path, kind):
    flat(tmp_path)
    rows = [
        {
            "file_name": f"{i}.png",
            "class": "ab"[i % 2],
            "text": f'so, "{i}"',
            "patient": f"p{i // 2}",
        }
        for i in range(4)
    ]
    if kind == "csv":
        lines = ["file_name,class,text,patient"] + [
            f'{r["file_name"]},{r["class"]},"so, ""{i}""",{r["patient"]}'
            for i, r in enumerate(rows)
        ]
        write_table(tmp_path, lines, encoding="utf-8-sig")  # with a byte-order mark
    else:
        write_table(tmp_path, [json.dumps(r) for r in rows], "metadata.jsonl")
    records = load_records(tmp_path, unit="patient", caption_column="text", yes_public=True)
    assert (
        records.kind == "table"
        and records.classes == ("a", "b")
        and records.labels.tolist() == [0, 1, 0, 1]
    )
    assert (
        records.unit.tolist() == [0, 0, 1, 1] and records.n_units == 2 and records.max_per_unit == 2
    )
    assert records.unit_column == "patient" and records.captions[3] == 'so, "3"'
    assert load_records(
        tmp_path / f"metadata.{kind}", labels="patient", yes_public=True
    ).classes == ("p0", "p1")
    refused("no column 'nurse' for --unit", tmp_path, unit="nurse")
    refused("no column 'nurse' for --labels", tmp_path, labels="nurse")
    refused("no column 'nurse' for --captions", tmp_path, caption_column="nurse")


def test_one_person_under_two_spellings_is_one_unit():
    rules = [None] * 3
    units = number_units(["Zo\u00eb", "Zoe\u0308", "Zoe"], 3, rules)
    assert units.number.tolist() == [0, 0, 1] and rules == [None] * 3


def test_units_for_class_folders(tmp_path):
    class_folders(tmp_path)
    refused("add metadata.csv with file_name and patient", tmp_path, unit="patient")
    write_table(
        tmp_path,
        ["file_name,patient"] + [f"{c}/{i}.png,{i}" for c in ("cat", "dog") for i in range(3)],
    )
    records = load_records(tmp_path, unit="patient")
    assert records.classes == ("cat", "dog") and records.unit.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_release_layout_reads_back(tmp_path):
    class_folders(tmp_path / "train")
    rows = [
        json.dumps({"file_name": f"train/{c}/{i}.png", "label": c})
        for c in ("cat", "dog")
        for i in range(3)
    ]
    write_table(tmp_path, rows, "metadata.jsonl")
    records = load_records(tmp_path)
    assert records.n == 6 and records.classes == ("cat", "dog") and not records.facts.ignored


def test_missing_cells_and_files_are_zero_slots(tmp_path):
    flat(tmp_path, 3)
    save(tmp_path / "3.png", 9)
    write_table(
        tmp_path,
        ["file_name,label,who", "0.png,a,x", "1.png,,x", "2.png,b,", "9.png,b,y", "3.png,b,y"],
    )
    refused("3 of 5 records are bad", tmp_path, unit="who", classes=["a", "b"])
    records = load_records(tmp_path, unit="who", max_bad=0.6, classes=["a", "b"])
    assert records.facts.bad == {"missing label": 1, "missing unit": 1, "missing file": 1}
    assert records.usable.tolist() == [True, False, False, False, True]
    assert records.unit.tolist() == [0, 0, 1, 2, 2]
    assert records.n == 5 and records.n_units == 3  # what is public does not count what is usable


@pytest.mark.parametrize(
    "lines,cure,encoding",
    [
        (["name,label", "0.png,a"], "no column file_name", "utf-8"),
        (["file_name,label", "0.png,é", "1.png,a"], "latin-1", "latin-1"),
        (["file_name,label", "../0.png,a"], "outside its folder", "utf-8"),
        (["file_name,label", "/etc/hostname,a"], "outside its folder", "utf-8"),
        (["file_name,label", "0.png,a,b"], "more cells than the header", "utf-8"),
        (["file_name,label", "0.png," + "a," * 10**6], "metadata.csv", "utf-8"),
        (["file_name,label", '0.png,"a'], "not a readable CSV", "utf-8"),
        (["file_name,label"], "no records found", "utf-8"),
        (["file_name,size", "0.png,a", "1.png,b"], "no column label or class", "utf-8"),
        (["file_name,label", "0.png,", "1.png,"], "no record has a label", "utf-8"),
        (["file_name,label,label", "0.png,a,b"], "duplicate column", "utf-8"),
    ],
)
def test_bad_tables(tmp_path, lines, cure, encoding):
    flat(tmp_path)
    write_table(tmp_path, lines, encoding=encoding)
    refused(cure, tmp_path)


def test_bad_jsonl_and_two_tables(tmp_path):
    flat(tmp_path)
    write_table(tmp_path, ['{"file_name": "0.png", "label": 1}', "[1]"], "metadata.jsonl")
    refused("line 2", tmp_path)
    write_table(tmp_path, ['{"file_name": "0.png", "label": 1}', "{"], "metadata.jsonl")
    refused("line 2", tmp_path)
    write_table(tmp_path, ["file_name,label"])
    refused("keep one", tmp_path)


def test_bad_folders(tmp_path):
    refused("no such file or folder", tmp_path / "nothing")
    refused("the folder holds no images", tmp_path)
    flat(tmp_path, 3)
    refused("--unlabelled", tmp_path)
    records = load_records(tmp_path, unlabelled=True)
    assert records.classes == ("image",) and records.labels.tolist() == [0, 0, 0]
    refused("exclude each other", tmp_path, unlabelled=True, labels="x")
    save(tmp_path / "cat" / "a.png", 5)
    refused("beside the class folders", tmp_path)
    refused("--max-bad", tmp_path, max_bad=float("nan"))
    (tmp_path / "a.zip").write_bytes(b"PK")
    refused("cannot be read as zip", tmp_path / "a.zip")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    refused("unpack other archives first", tmp_path / "a.rar")


def test_one_image_and_an_empty_class(tmp_path):
    save(tmp_path / "cat" / "a.png", 1)
    assert load_records(tmp_path).few == {"cat": 1} and load_records(tmp_path).classes == ()
    assert load_records(tmp_path, classes=["cat"]).usable.all()
    (tmp_path / "dog").mkdir()
    refused("class folder 'dog' holds no images", tmp_path)


def test_bad_files_are_counted_and_limited(tmp_path):
    class_folders(tmp_path, each=60)
    (tmp_path / "cat" / "x.png").write_text("no picture, the secret words")
    records = load_records(tmp_path)
    assert records.n == 121 and records.usable.sum() == 120
    (tmp_path / "cat" / "y.heic").write_bytes(b"")
    (tmp_path / "cat" / "notes.txt").write_text("left out")
    message = refused("raise --max-bad above 0.0164", tmp_path)
    assert "2 of 122" in message and "empty file: 1" in message and "secret" not in message
    assert "--classes" not in message
    assert "correct --classes, repair" in refused("62 of 122", tmp_path, classes=("cat", "dgo"))
    records = load_records(tmp_path, max_bad=0.02)
    said = {"texts that may be captions (none is read or trained on)": 1}
    assert records.facts.ignored == said
    for name in ("cat", "dog"):
        for i in range(60):
            (tmp_path / name / f"{i}.png").write_bytes(b"")
    refused("repair them", tmp_path, max_bad=1)


def test_links_out_are_not_followed(tmp_path):
    root = class_folders(tmp_path / "data")
    save(tmp_path / "secret" / "s.png", 99)
    os.symlink(tmp_path / "secret" / "s.png", root / "cat" / "link.png")
    os.symlink(tmp_path / "secret", root / "cat" / "deep")
    os.symlink(root / "cat" / "0.png", root / "dog" / "inside.png")
    os.symlink("loop.png", root / "dog" / "loop.png")
    records = load_records(root)
    assert records.n == 7 and records.facts.ignored["symbolic link out of the folder"] == 1
    write_table(root, ["file_name,label", "cat/0.png,a", "cat/link.png,b", "cat/deep/s.png,b"])
    assert load_records(root, max_bad=1, classes=["a", "b"]).facts.bad == {
        "symbolic link out of the folder": 2
    }


def test_a_file_that_changes_after_indexing_gives_zeros(tmp_path):
    records = load_records(class_folders(tmp_path))
    save(tmp_path / "cat" / "0.png", 77)
    (tmp_path / "cat" / "1.png").unlink()
    assert not records.images([0, 1], 12).any() and records.images([2], 12).any()
    assert records.load([2, 0, 1], 12)[1].tolist() == [True, False, False]


def test_an_array_that_changes_after_indexing_gives_zeros(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (4, 12, 12), np.uint8)
    np.savez(tmp_path / "d.npz", images=pixels, labels=np.array([0, 1, 0, 1]))
    records = load_records(tmp_path / "d.npz", classes=["0", "1"])
    assert len(set(records.fingerprints)) == 4  # read, as the ledger does
    data = bytearray((tmp_path / "d.npz").read_bytes())
    at = data.find(pixels[2].tobytes())
    data[at] ^= 255
    with open(tmp_path / "d.npz", "r+b") as file:  # under the memory map
        file.write(data)
    images, good = records.load(range(4), 12)
    assert good.tolist() == [True, True, False, True] and not images[2].any() and images[3].any()


def test_rearranged_records_are_the_same_ones(tmp_path):
    for records in (
        load_records(class_folders(tmp_path)),
        load_records(save_npz(tmp_path), unit="unit"),
    ):
        order = np.random.default_rng(2).permutation(records.n)
        moved = records.rearranged(order)
        again = moved.rearranged(np.argsort(order))
        assert order[moved.reading_order].tolist() == list(range(records.n))
        for slot, old in enumerate(order):
            assert (
                moved.labels[slot] == records.labels[old]
                and moved.fingerprints[slot] == records.fingerprints[old]
            )
            np.testing.assert_array_equal(moved.images([slot], 12), records.images([old], 12))
            np.testing.assert_array_equal(moved.pixels(slot), records.pixels(old))
        together = [
            {frozenset(np.flatnonzero(r.unit == u)) for u in range(r.n_units)}
            for r in (records, again)
        ]
        assert together[0] == together[1] and moved.n_units == records.n_units
        assert moved.unit[np.sort(np.unique(moved.unit, return_index=True)[1])].tolist() == list(
            range(moved.n_units)
        )
        # units are renumbered
        assert again.digest(bytes(16)) == records.digest(bytes(16)) or records.unit_column


def save_npz(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (6, 12, 12), np.uint8)
    labels, unit = np.array([0, 1, 0, 1, 0, 1]), np.array([3, 3, 1, 2, 1, 9])
    np.savez(tmp_path / "r.npz", images=pixels, labels=labels, unit=unit)
    return tmp_path / "r.npz"


def test_odd_names(tmp_path):
    for i, name in enumerate(
        [
            "caf\u00e9.png",
            "cafe\u0301.png",
            "🙂.png",
            "a\nb.png",
            "-rf.png",
            "\u202egnp.png",
            "x" * 251 + ".png",
            "A.PNG",
        ]
    ):
        save(tmp_path / "c" / name, i)
    assert load_records(tmp_path).n == 8


def idx_bytes(array):
    return (
        b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    )


def idx_pair(root, prefix="train", n=20, zipped=False, size=28, seed=0):
    root.mkdir(exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (n, size, size), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    for name, array in (
        (f"{prefix}-images-idx3-ubyte", images),
        (f"{prefix}-labels-idx1-ubyte", labels),
    ):
        data = idx_bytes(array)
        (root / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    return images


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path, zipped):
    images = idx_pair(tmp_path, zipped=zipped)
    idx_pair(tmp_path, "t10k", n=7, zipped=zipped)
    records = load_records(tmp_path, yes_public=True)
    assert records.kind == "idx" and records.classes == tuple("0123456789") and records.n == 20
    padded = records.images([3, 1], 32)
    np.testing.assert_array_equal(padded[0, 2:30, 2:30, 1], images[3])
    for border in (padded[:, :2], padded[:, :, 30:]):
        assert (border == padded[:, :1, :1]).all(), "one tone, each picture's own"
    np.testing.assert_array_equal(records.images([4], 28)[0, ..., 0], images[4])
    assert records.images([4], 64).shape == (1, 64, 64, 3)
    assert load_records(tmp_path, part="test", classes=records.classes).n == 7
    assert (
        load_records(
            tmp_path / f"t10k-labels-idx1-ubyte{'.gz' * zipped}", classes=records.classes
        ).n
        == 7
    )
    assert isinstance(records.array, np.memmap) != zipped


def test_bad_idx(tmp_path):
    idx_pair(tmp_path)
    refused("0 idx image files for the test split", tmp_path, part="test")
    images = tmp_path / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    refused("shorter or longer than its idx header", tmp_path)
    images.write_bytes(b"garbage!")
    refused("not an idx file", tmp_path)
    images.write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)
    refused("shorter or longer than its idx header", tmp_path)
    images.write_bytes(whole)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    refused("19 entries for 20 images", tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    refused("incomplete idx pair", tmp_path)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_npz(tmp_path, writer):
    images = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    path = tmp_path / "set.npz"
    writer(
        path,
        images=images,
        labels=np.arange(6)[:, None] % 2,
        unit=np.arange(6) // 3,
        classes=np.array(["no", "yes", "maybe"]),
    )
    records = load_records(path, yes_public=True)
    assert (
        records.kind == "npz"
        and records.classes == ("no", "yes", "maybe")
        and records.labels.tolist() == [0, 1] * 3
    )
    assert records.unit.tolist() == [0, 0, 0, 1, 1, 1] and records.unit_column == "unit"
    np.testing.assert_array_equal(records.images([5, 2], 16), images[[5, 2]])
    assert isinstance(records.array, np.memmap) == (writer is np.savez)
    refused("no array 'patient'", path, unit="patient")


def test_npz_other_types_and_names(tmp_path):
    path = tmp_path / "x.npz"
    grey = np.full((4, 9, 9), 0.5)
    grey[1, 0, 0] = np.nan
    np.savez(
        path,
        x_train=grey,
        y_train=np.array(["b", "a", "b", "a"]),
        x_test=grey[:2],
        y_test=np.array(["a", "b"]),
    )
    records = load_records(path, max_bad=0.25)
    assert (
        records.facts.bad == {"not finite": 1}
        and not records.images([1], 9).any()
        and (records.images([0], 9) == 128).all()
    )
    assert load_records(path, part="test", max_bad=1, classes=["a", "b"]).n == 2
    np.savez(path, images=np.full((2, 3, 10, 10), 257 * 7, np.uint16), labels=[0, 1])
    assert (load_records(path, classes=["0", "1"]).images([0], 10) == 7).all()
    np.savez(path, images=np.zeros((2, 10, 10, 4), bool), labels=[0, 1])
    # transparent: white
    assert (load_records(path, classes=["0", "1"]).images([0], 10) == 255).all()


@pytest.mark.parametrize(
    "content,cure",
    [
        ({"images": np.zeros((3, 9, 9), np.uint8)}, "no array `labels`"),
        ({"labels": np.zeros(3)}, "no array `images`"),
        ({"images": np.zeros((3, 9), np.uint8), "labels": [0, 1, 1]}, "wrong shape"),
        ({"images": np.full((3, 9, 9), 9.0), "labels": [0, 1, 1]}, "0..1"),
        ({"images": np.zeros((3, 9, 9), np.int64), "labels": [0, 1, 1]}, "give uint8"),
        ({"images": np.zeros((3, 9, 9), np.uint8), "labels": [0, 1]}, "2 entries for 3 images"),
        ({"images": np.zeros((3, 2, 2), np.uint8), "labels": [0, 1, 1]}, "too small"),
        ({"images": np.zeros((0, 9, 9), np.uint8), "labels": []}, "no records found"),
        ({"images": np.array([{}, None], dtype=object), "labels": [0, 1]}, "pickled objects"),
    ],
)
def test_bad_npz(tmp_path, content, cure):
    np.savez(tmp_path / "x.npz", **content)
    refused(cure, tmp_path / "x.npz")


def test_cut_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 no zip")
    refused("cannot be read as npz", tmp_path / "x.npz")


def png(seed):
    stream = io.BytesIO()
    Image.fromarray(picture(seed)).save(stream, "PNG")
    return stream.getvalue()


def test_parquet_struct_and_bytes(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = {
        "info": {
            "features": {
                "image": {"_type": "Image"},
                "label": {"_type": "ClassLabel", "names": ["no", "yes"]},
            }
        }
    }
    table = pa.table(
        {
            "image": [{"bytes": png(i), "path": None} for i in range(7)],
            "label": [0, 1, 0, 1, 0, 1, -1],
            "who": list("aabbccd"),
            "d": [b"x"] * 7,
        }
    ).replace_schema_metadata({"huggingface": json.dumps(names)})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet", row_group_size=3)
    pq.write_table(table.slice(0, 2), tmp_path / "data" / "test-00000-of-00001.parquet")
    records = load_records(tmp_path, unit="who", max_bad=0.2)
    assert (
        records.kind == "parquet"
        and records.classes == ("no", "yes")
        and records.labels.tolist() == [0, 1, 0, 1, 0, 1, -1]
    )
    assert records.n_units == 4 and records.facts.bad == {"missing label": 1}
    np.testing.assert_array_equal(
        records.images([5, 0, 3], 12), [picture(5), picture(0), picture(3)]
    )
    assert load_records(tmp_path, part="test").n == 2
    pq.write_table(
        pa.table({"img": [png(i) for i in range(3)] + [None], "class": ["b", "a", "b", "a"]}),
        tmp_path / "plain.parquet",
    )
    records = load_records(tmp_path / "plain.parquet", max_bad=0.25, yes_public=True)
    assert records.classes == ("a", "b") and records.facts.bad == {"missing file": 1}
    refused("no column 'x' for --labels", tmp_path / "plain.parquet", labels="x")
    pq.write_table(pa.table({"a": [1, 2], "label": [1, 2]}), tmp_path / "none.parquet")
    refused("no unambiguous image column", tmp_path / "none.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1....")
    refused("not a readable parquet", tmp_path / "cut.parquet")


def test_digest_names_the_data_not_the_format(tmp_path):
    folder = load_records(class_folders(tmp_path / "f"))
    stack = np.stack([picture(10 * c + i) for c in range(2) for i in range(3)])
    np.savez(tmp_path / "x.npz", images=stack, labels=np.repeat(["cat", "dog"], 3))
    assert folder.digest(KEY) == load_records(tmp_path / "x.npz").digest(KEY)
    assert folder.digest(KEY) != folder.digest(b"j" * 32)
    stack[0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "y.npz", images=stack, labels=np.repeat(["cat", "dog"], 3))
    assert folder.digest(KEY) != load_records(tmp_path / "y.npz").digest(KEY)
    with pytest.raises(ValueError):
        folder.digest(b"short")


def test_describe(tmp_path):
    class_folders(tmp_path)
    save(tmp_path / "cat" / "copy.png", 0)
    save(tmp_path / "owl" / "one.jpg", 50, size=40)
    summary = describe(load_records(tmp_path))
    assert (summary.n, summary.usable, summary.few) == (
        8,
        8,
        {"owl": 1},
    ) and summary.class_counts == {"cat": 4, "dog": 3}
    assert summary.smallest == (12, 12) and summary.largest == (40, 40)
    assert summary.exact_duplicates == 1 and summary.n_units == 8 and summary.max_per_unit == 1
    assert any("fewer than 3 units are set apart" in w for w in summary.warnings)
    assert "class 'owl' is set apart: only 1 unit" in summary.lines()
    assert any("EXIF in 0 files" in line for line in summary.lines())
