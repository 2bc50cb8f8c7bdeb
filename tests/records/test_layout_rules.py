"""Splits, nesting, rows of one image, links and broken files: what no layout may get wrong."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sfumato
from sfumato.errors import SfumatoError
from sfumato.records import bounded, load_records, require_read_as_today
from sfumato.records.decode import decode
from sfumato.records.jpeg import scans

SECRET = "Jane Roe"


def pixels(seed: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def png(seed: int, side: int = 16) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(out, "PNG")
    return out.getvalue()


def put(place: Path, data: bytes | str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data.encode() if isinstance(data, str) else data)
    return place


def pictures(root: Path, n: int = 4, first: int = 0) -> None:
    for i in range(first, first + n):
        put(root / f"{i}.png", png(i))


def table(root: Path, *rows: str, head: str = "file_name,label,who") -> None:
    put(root / "metadata.csv", "\n".join([head, *rows]))


def refused(why: str, *args, **options) -> str:
    with pytest.raises(SfumatoError, match=re.escape(why)) as caught:
        load_records(*args, **options)
    said = str(caught.value)
    assert "\n" not in said and caught.value.exit_code in (2, 10) and SECRET not in said
    return said


# ---------------------------------------------------------------- splits and nesting


def test_one_folder_named_like_a_split_is_a_class_beside_others(tmp_path):
    for name in ("bus", "car", "train"):
        pictures(tmp_path / name)
    assert load_records(tmp_path).classes == ("bus", "car", "train")


def test_folders_of_two_domains_are_not_four_classes(tmp_path):
    for name in ("trainA", "trainB", "testA", "testB"):
        pictures(tmp_path / name)
    refused("2 of them may be 'train'", tmp_path)


def test_a_folder_of_pictures_alone_is_no_class(tmp_path):
    pictures(tmp_path / "images")
    refused("a flat folder of images has no classes", tmp_path)
    found = sfumato.inspect(tmp_path)
    assert found.n == 4 and found.class_counts == {"image": 4}
    table(tmp_path, *(f"images/{i}.png,P{i}" for i in range(4)), head="file_name,who")
    refused("has no column label or class", tmp_path)


def test_a_folder_that_holds_all_of_an_archive_is_no_class(tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for name in ("cat", "dog"):
            for i in range(3):
                archive.writestr(f"scans/{name}/{i}.png", png(i))
    assert load_records(tmp_path / "scans.zip").classes == ("cat", "dog")


def test_inner_folders_are_classes_if_said_so(tmp_path):
    for site in ("north", "south"):
        for name in ("cat", "dog"):
            pictures(tmp_path / site / name, 3)
    assert load_records(tmp_path).classes == ("north", "south")
    assert any("--layout inner" in line for line in sfumato.inspect(tmp_path).otherwise)
    found = load_records(tmp_path, layout="inner", unit="folder", yes_public=True)
    assert found.classes == ("cat", "dog") and found.n == 12 and found.n_units == 2


def test_numbers_that_count_classes_are_part_of_them(tmp_path):
    for name in ("0_cat", "1_dog", "2_owl"):
        pictures(tmp_path / "n" / name)
    for name in ("10_cat", "2_cat", "3_dog"):
        pictures(tmp_path / "k" / name)
    assert load_records(tmp_path / "n").classes == ("0_cat", "1_dog", "2_owl")
    found = load_records(tmp_path / "k")
    assert found.kind == "kohya" and found.classes == ("cat", "dog") and found.n == 12
    raw = ("10_cat", "2_cat", "3_dog")
    assert load_records(tmp_path / "k", layout="folders", yes_public=True).classes == raw
    assert load_records(tmp_path / "k", classes=raw).usable.all(), "a run of before resumes"


def test_a_run_of_before_reads_as_before(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / name / "train", 3)
        pictures(tmp_path / name / "test", 3, 5)
    assert load_records(tmp_path).n == 6 and load_records(tmp_path, frames="plain").n == 12


def test_nothing_new_is_charged_by_what_versions_of_before_took_for_units(tmp_path):
    pictures(tmp_path, 4)
    table(tmp_path, *(f"{i}.png,{'ab'[k]},P{i}" for i in range(4) for k in range(2)))
    before = load_records(tmp_path, frames="plain", yes_public=True)
    assert (before.n, before.n_units) == (8, 8) and load_records(tmp_path, yes_public=True).n == 8
    assert "each row is a unit of its own" in before.facts.layout[-1]
    assert not any("one unit" in said for said in before.facts.layout)
    new = {"base": "glyphs", "epsilon": 1.0, "ledger": tmp_path / "l.sqlite"}
    for images, how in ((tmp_path, {"frames": "plain", "yes_public": True}), (before, {})):
        for verb, more in (
            (sfumato.plan, {}),
            (sfumato.adapt, {"output": tmp_path.parent / "run"}),
        ):
            with pytest.raises(SfumatoError, match="--frames plain reads as earlier versions did"):
                verb(images, **new, **how, **more)
    with pytest.raises(SfumatoError, match="--frames plain"):
        require_read_as_today(before.rearranged(np.arange(8)))


def linked(root: Path) -> None:
    """Five pictures; the first and the last have two names, in folders of two people."""
    pictures(root / "cat" / "Ann", 3)
    pictures(root / "dog" / "Bob", 2, 3)
    (root / "dog" / "Bob" / "l.png").symlink_to("../../cat/Ann/0.png")
    (root / "cat" / "Ann" / "m.png").symlink_to(root / "dog" / "Bob" / "4.png")


def test_a_link_is_another_name_of_one_picture_and_so_of_one_unit(tmp_path):
    linked(tmp_path / "set")
    rest = {"yes_public": True, "unlabelled": True}
    found = load_records(tmp_path / "set", yes_public=True)
    assert (found.n, found.n_units, found.max_per_unit) == (7, 5, 2)
    assert "2 names lead to a file that has another one" in found.facts.layout[-1]
    assert load_records(tmp_path / "set", frames="plain", **rest).n_units == 7
    refused("2 images stand in rows of different", tmp_path / "set", unit="folder", **rest)
    under = tmp_path / "set" / "train"  # a split outside, and one inside the classes
    for kind in ("cat", "dog"):
        (tmp_path / "set" / kind).rename(put(under / "x", "").parent / kind)
    (under / "x").unlink(), (under / "dog" / "Bob" / "l.png").unlink()
    (under / "dog" / "Bob" / "l.png").symlink_to("../../cat/Ann/0.png")
    assert load_records(tmp_path / "set", yes_public=True, max_bad=0.5).n_units == 5
    linked(tmp_path / "b")
    names = [
        p.relative_to(tmp_path / "b").as_posix() for p in sorted((tmp_path / "b").rglob("*.png"))
    ]
    table(tmp_path / "b", *(f"{name},a,P" for name in names))
    assert load_records(tmp_path / "b", yes_public=True).n_units == 5
    linked(tmp_path / "c" / "cats")
    with tarfile.open(tmp_path / "c.tar", "w", dereference=False) as tar:
        for name in ("cat/Ann/0.png", "cat/Ann/1.png", "dog/Bob/3.png", "dog/Bob/4.png"):
            tar.add(tmp_path / "c" / "cats" / name, name)
        hard = tarfile.TarInfo("dog/Bob/x.png")
        hard.type, hard.linkname = tarfile.LNKTYPE, "cat/Ann/0.png"
        tar.addfile(hard)
    found = load_records(tmp_path / "c.tar", yes_public=True)
    assert (found.n, found.n_units) == (5, 4)


@pytest.mark.parametrize("how", [{"unlabelled": True}, {"yes_public": True}, {"layout": "flat"}])
def test_folders_of_participants_are_not_taken_for_parts_of_a_set(tmp_path, how):
    for person in range(1, 5):
        for visit in range(3):
            pictures(tmp_path / f"part{person:02d}" / f"visit{visit}", 2, 6 * person + 2 * visit)
    refused("4 folders at the top (part01 ...) may be people", tmp_path, unit="folder", **how)
    assert "may be people" in (
        sfumato.inspect(tmp_path, unit="folder", unlabelled=True).refused or ""
    )
    said = {"unit": "folder", "layout": "folders", "unlabelled": True}
    found = load_records(tmp_path, **said)
    assert (found.n, found.n_units, found.max_per_unit) == (24, 4, 6)
    assert load_records(tmp_path, yes_public=True).classes == ("visit0", "visit1", "visit2")


def test_rows_without_a_file_are_no_units_of_one_image(tmp_path):
    pictures(tmp_path, 4)
    table(tmp_path, *(f"{i}.png,a,P{i}" for i in range(4)), ",a,P4", ",a,P5")
    found = load_records(tmp_path, unit="who", yes_public=True, max_bad=0.5)
    assert found.n_units == 6 and found.usable.sum() == 4


def test_a_column_of_splits_leaves_the_others_out(tmp_path):
    pictures(tmp_path / "x")
    rows = [f"x/{i}.png,a,{'train' if i < 3 else 'valid'}" for i in range(4)]
    table(tmp_path, *rows, head="file_name,label,Subset")
    assert load_records(tmp_path, yes_public=True).n == 3
    assert load_records(tmp_path, yes_public=True, part="test").n == 1
    assert load_records(tmp_path, labels="Subset", yes_public=True).n == 4, "asked for as labels"


# ---------------------------------------------------------------- one picture in several rows


@pytest.mark.parametrize("spelt", ["x/{}.png", "./x/{}.png", "x\\{}.png", "/data/set/x/{}.png"])
def test_rows_of_one_image_are_one_unit(tmp_path, spelt):
    pictures(tmp_path / "x")
    rows = [f"{name.format(i)},a,P" for i in range(4) for name in ("x/{}.png", spelt)]
    table(tmp_path, *rows)
    if spelt.startswith("/"):
        refused("names one file in two ways", tmp_path)
        return
    found = load_records(tmp_path, yes_public=True)
    assert (found.n, found.n_units, found.max_per_unit) == (8, 4, 2)


def test_rows_of_one_image_under_two_labels_are_said(tmp_path):
    pictures(tmp_path / "x")
    table(tmp_path, *(f"x/{i}.png,{label},P{i}" for i in range(4) for label in "ab"))
    found = sfumato.inspect(tmp_path)
    assert any("4 images have several labels" in line for line in found.layout)
    assert found.n_units == 4


def test_rows_of_one_image_under_two_units_are_refused(tmp_path):
    pictures(tmp_path / "x")
    table(tmp_path, *(f"x/{i}.png,a,{who}" for i in range(4) for who in (SECRET, "B")))
    refused("4 images stand in rows of different units", tmp_path, unit="who", yes_public=True)
    assert load_records(tmp_path, yes_public=True).n_units == 4


def test_rows_of_equal_bytes_are_one_unit(tmp_path):
    held = [png(i // 2) for i in range(8)]
    pq.write_table(pa.table({"image": held, "label": ["a"] * 8}), tmp_path / "x.parquet")
    found = load_records(tmp_path, classes=["a"])
    assert (found.n, found.n_units) == (8, 4) and found.unit.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# ---------------------------------------------------------------- several labels


@pytest.mark.parametrize("cells", ["Mass|Edema", "Mass;Edema"])
def test_joined_labels_are_refused_by_name(tmp_path, cells):
    pictures(tmp_path / "x", 12)
    table(tmp_path, *(f'x/{i}.png,"{cells if i % 2 else "Mass"}",P{i}' for i in range(12)))
    refused("holds several labels for one image, joined by", tmp_path)
    assert load_records(tmp_path, classes=["Mass", cells]).n == 12


def test_lists_and_columns_of_yes_and_no_are_refused_by_name(tmp_path):
    pictures(tmp_path / "a" / "x")
    rows = [json.dumps({"file_name": f"x/{i}.png", "label": ["p", "q"]}) for i in range(4)]
    put(tmp_path / "a" / "metadata.jsonl", "\n".join(rows))
    refused("holds several labels for each image", tmp_path / "a")
    pictures(tmp_path / "b" / "x")
    table(tmp_path / "b", *(f"x/{i}.png,1,0,1" for i in range(4)), head="file_name,Mass,Edema,Cyst")
    refused("3 columns of 0 and 1", tmp_path / "b")
    lists = pa.table({"image": [png(0)], "labels": [["p", "q"]]})
    pq.write_table(lists, tmp_path / "l.parquet")
    refused("'labels' holds several labels", tmp_path / "l.parquet")


# ---------------------------------------------------------------- names


def test_a_missing_file_is_not_another_of_the_same_name(tmp_path):
    pictures(tmp_path / "dog")
    pictures(tmp_path / "cat", 3)
    table(tmp_path, *(f"cat/{i}.png,cat,P{i}" for i in range(4)))
    found = load_records(tmp_path, max_bad=0.5, yes_public=True)
    assert found.facts.bad == {"missing file": 1} and not found.usable[3]


def test_bare_names_that_fit_several_files_are_refused(tmp_path):
    pictures(tmp_path / "dog")
    pictures(tmp_path / "cat")
    table(tmp_path, *(f"{i}.png,cat,P{i}" for i in range(4)))
    refused("lie in several folders", tmp_path)


def test_other_capitals_are_the_same_name_where_one_file_has_it(tmp_path):
    for i in range(4):
        put(tmp_path / "x" / f"IMG_{i}.PNG", png(i))
    table(tmp_path, *(f"X/img_{i}.png,a,P{i}" for i in range(4)))
    assert load_records(tmp_path, yes_public=True).usable.all()


def test_two_tables_are_one_too_many(tmp_path):
    pictures(tmp_path / "x")
    for name in ("one.csv", "two.csv"):
        put(tmp_path / name, "file,label\n" + "\n".join(f"x/{i}.png,a" for i in range(4)))
    refused("2 tables name images (one.csv, two.csv)", tmp_path)
    assert load_records(tmp_path / "one.csv", yes_public=True).n == 4
    (tmp_path / "one.csv").rename(tmp_path / "train.csv")
    (tmp_path / "two.csv").rename(tmp_path / "test.csv")
    assert load_records(tmp_path, yes_public=True).kind == "table"


def test_a_table_that_names_no_images_leaves_class_folders_alone(tmp_path):
    for name in ("cat", "dog"):
        pictures(tmp_path / name)
    put(tmp_path / "boxes.csv", "file,x,y\n" + "\n".join(f"cat/{i}.png,1,2" for i in range(3)))
    assert load_records(tmp_path).classes == ("cat", "dog")


def test_links_without_content_say_how_to_get_it(tmp_path):
    for i in range(3):
        put(tmp_path / "cat" / ".keep", "")
        (tmp_path / "cat" / f"{i}.png").symlink_to("../.git/annex/none")
    refused("3 links whose files are not there: fetch them (git annex get", tmp_path)


def test_pointers_of_git_lfs_are_told_from_damage(tmp_path):
    for i in range(3):
        put(tmp_path / "cat" / f"{i}.png", "version https://git-lfs.github.com/spec/v1\noid x\n")
    refused("a pointer of git-lfs, not the file: 3", tmp_path)
    put(tmp_path / "x.parquet", "version https://git-lfs.github.com/spec/v1\noid x\n")
    refused("git lfs pull", tmp_path / "x.parquet")


# ---------------------------------------------------------------- COCO


def coco(root: Path, n: int = 3, kinds: tuple[str, ...] = ("cat", "dog"), **more) -> Path:
    images = [{"id": i, "file_name": f"{i}.png", "who": f"P{i // 2}"} for i in range(n)]
    objects = [
        {"id": 2 * i + k, "image_id": i, "category_id": k, "bbox": [k, k, 12 + k, 12]}
        for i in range(n)
        for k in range(len(kinds))
    ]
    body = {"images": images, "annotations": objects, "categories": []} | more
    body["categories"] = [{"id": k, "name": name} for k, name in enumerate(kinds)]
    return put(root / "coco.json", json.dumps(body))


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


# ---------------------------------------------------------------- archives


def zip_of(place: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(place, "w", method) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i))
    return place


def test_a_zip_that_unfolds_without_end_is_refused(tmp_path):
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(40):
            archive.writestr(f"a/{i}.bmp", bytes(2**24))
    refused("grows more than 50 times", place)


def test_a_member_that_unfolds_to_more_than_it_says_is_a_zero_slot(tmp_path):
    place = zip_of(tmp_path / "x.zip", *(f"{c}/{i}.png" for c in "ab" for i in range(4)))
    data = bytearray(place.read_bytes())
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    endless = packed.compress(bytes(2**27)) + packed.flush()
    assert len(endless) < 2**18
    with zipfile.ZipFile(place) as archive:
        entry = archive.infolist()[0]
    # the same size is declared, in both places, for what unfolds to 128 MiB
    local = data[entry.header_offset : entry.header_offset + 30 + len(entry.filename)]
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        for i, name in enumerate(f"{c}/{i}.png" for c in "ab" for i in range(4)):
            archive.writestr(name, endless if i == 0 else png(i))
        archive.infolist()[0].compress_type = zipfile.ZIP_DEFLATED
        archive.infolist()[0].file_size = len(png(0))
    assert local
    records = load_records(tmp_path / "y.zip", max_bad=0.5)
    assert records.usable.sum() == 7 and not records.usable[0]


@pytest.mark.parametrize(
    "names,why",
    [
        (("a/1.png", "a/1.png"), "holds a member twice"),
        (("a/1.png", "../1.png"), "names a file outside itself"),
        (("a/1.png", "/etc/1.png"), "names a file outside itself"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bad_names_in_a_zip(tmp_path, names, why):
    refused(why, zip_of(tmp_path / "x.zip", *names))


def test_other_bad_archives(tmp_path):
    good = zip_of(tmp_path / "x.zip", "a/1.png", "b/2.png").read_bytes()
    refused("cannot be read as zip", put(tmp_path / "cut.zip", good[: len(good) // 2]))
    flags = good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    refused("is encrypted", put(tmp_path / "locked.zip", flags))
    other = zip_of(tmp_path / "y.zip", "a/1.png", method=zipfile.ZIP_BZIP2)
    refused("a method other than deflate", other)
    refused("decompress it", put(tmp_path / "x.tar.gz", b"\x1f\x8b"))
    refused("is damaged or cut", put(tmp_path / "x.tar", b"x" * 2000))
    only = tmp_path / "only"
    zip_of(put(only / "x.zip", ""), "a/1.png")
    refused("give a zip or tar as the path", only)


def tar_of(place: Path, *members: tuple[str, bytes]) -> Path:
    import tarfile

    with tarfile.open(place, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return place


def test_bad_tars(tmp_path):
    one = [("k.png", png(0)), ("k.cls", b"0")]
    refused("holds a member twice", tar_of(tmp_path / "a.tar", *one, *one))
    refused("several images", tar_of(tmp_path / "b.tar", *one, ("k.jpg", png(1))))
    whole = tar_of(tmp_path / "c.tar", *one, ("l.png", png(2)), ("l.cls", b"1"))
    data = whole.read_bytes()
    for cut in (100, 700, 1024, len(png(0)) + 1300, data.rindex(b"l.cls")):
        refused("is damaged or cut", put(tmp_path / "d.tar", data[:cut]))
    records = load_records(whole, classes=["0", "1"])
    whole.write_bytes(bytes(len(data)))
    assert not records.load([0, 1], 16)[1].any()
    late = [(f"{i}.png", png(i)) for i in range(8)] + [("7.cls", b"a"), ("7.json", b"[1")]
    found = load_records(tar_of(tmp_path / "e.tar", *late), max_bad=0.9, classes=["a"])
    assert found.labels.tolist() == [-1] * 7 + [0], "the first samples decide nothing"


# ---------------------------------------------------------------- Arrow


def saved(root: Path, n: int = 4) -> Path:
    rows = pa.table({"image": [png(i) for i in range(n)], "label": ["a", "b"] * (n // 2)})
    root.mkdir(parents=True)
    with pa.OSFile(str(root / "data-0.arrow"), "wb") as out:
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=3)
    put(root / "state.json", json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    return root


@pytest.mark.parametrize(
    "state,why",
    [
        ("{", "state.json of the data set is damaged"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "lacks a file that it names"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names files outside its folder"),
        ('{"_data_files": [], "_indices_data_files": [1]}', "flatten_indices()"),
        ('{"_data_files": []}', "no records found"),
    ],
)
def test_bad_states_of_a_saved_data_set(tmp_path, state, why):
    put(saved(tmp_path / "s") / "state.json", state)
    put(tmp_path / "x.arrow", "")
    refused(why, tmp_path / "s")


def test_damaged_arrow_files(tmp_path):
    root = saved(tmp_path / "s")
    file = root / "data-0.arrow"
    records = load_records(root, classes=["a", "b"])
    assert records.load(range(4), 16)[1].all() and records.load([0], 16)[1].all()
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert not records.load([3], 16)[1].any()
    refused("not a readable arrow file", root)
    file.write_bytes(b"ARROW1" + bytes(99))
    refused("not a readable arrow file", root)


def test_the_feather_form_is_read(tmp_path):
    rows = pa.table({"image": [png(i) for i in range(4)], "label": ["a", "b"] * 2})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_file(out, rows.schema) as to:
        to.write_table(rows)
    assert load_records(tmp_path / "x.arrow", classes=["a", "b"]).load(range(4), 16)[1].all()


# ---------------------------------------------------------------- the bounded process


def zipped(root: Path) -> Path:
    return zip_of(root, "a/1.png", "b/2.png")


def tabled(root: Path) -> Path:
    rows = pa.table({"image": [png(i) for i in range(4)], "label": ["a", "b"] * 2})
    pq.write_table(rows, root.with_suffix(".parquet"), row_group_size=3)
    return root.with_suffix(".parquet")


@pytest.mark.parametrize("make", [saved, zipped, tabled])
def test_only_the_other_process_opens_what_holds_pictures(tmp_path, monkeypatch, make: Callable):
    place = make(tmp_path / ("s" if make is saved else "s.zip"))

    def here(*args, **options):
        raise AssertionError("opened beside the keys")

    monkeypatch.setattr(pa.ipc, "open_stream", here)
    monkeypatch.setattr(pa.ipc, "open_file", here)
    monkeypatch.setattr(pq, "ParquetFile", here)
    monkeypatch.setattr(zipfile, "ZipFile", here)
    monkeypatch.setattr(zlib, "decompressobj", here)
    records = load_records(place, classes=["a", "b"])
    assert records.load(range(records.n), 16)[1].all()


def test_a_reader_that_takes_too_long_is_a_refusal(tmp_path, monkeypatch):
    pictures(tmp_path, 2)
    coco(tmp_path, bad=[[]] * 1_000_000)
    monkeypatch.setattr(bounded, "SECONDS", 1e-6)
    monkeypatch.setattr(bounded, "BYTES_PER_SECOND", 1e12)
    refused("to read: write it in smaller parts", tmp_path)
    monkeypatch.undo()
    assert load_records(coco(tmp_path, n=2), objects="largest", yes_public=True).n == 2


# ---------------------------------------------------------------- guards on a picture's own bytes


def jpeg(side: int = 32, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(1, side)).save(out, "JPEG", **options)
    return out.getvalue()


def test_bytes_that_are_not_the_pictures_say_nothing_of_its_scans():
    plain, progressive = jpeg(), jpeg(progressive=True)
    assert scans(plain) == (1, True) and scans(progressive).count > 3
    noise = b"\xff\xda" * 500
    behind = plain + noise  # the film of a telephone
    exif = plain[:2] + b"\xff\xe1" + (len(noise) + 2).to_bytes(2, "big") + noise + plain[2:]
    for data in (behind, exif, plain + progressive):
        assert scans(data) == (1, True)
        np.testing.assert_array_equal(decode(data)[0], decode(plain)[0])
    end = b"\xff\xd9"
    assert not scans(plain[:-2]).complete and not scans(progressive[:-2]).complete
    at = progressive.rindex(b"\xff\xda")
    assert not scans(progressive[:at] + b"\xff\xe1\x00\x04" + end).complete


def test_an_archive_of_one_folder_and_links_in_a_tar(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("cat", "dog"):
            for i in range(3):
                archive.writestr(f"set\\{name}\\{i}.png", png(i))
    assert load_records(tmp_path / "x.zip").classes == ("cat", "dog")
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i in range(3):
            info = tarfile.TarInfo(f"cat/{i}.png")
            info.size = len(png(i))
            archive.addfile(info, io.BytesIO(png(i)))
        for name, kind, to in (
            ("same", tarfile.LNKTYPE, "cat/0.png"),
            ("out", tarfile.SYMTYPE, "/etc/passwd"),
        ):
            info = tarfile.TarInfo(f"cat/{name}.png")
            info.type, info.linkname = kind, to
            archive.addfile(info)
    found = load_records(tmp_path / "x.tar", max_bad=0.5)
    assert found.n == 5 and found.facts.bad == {"missing file": 1}


def test_a_table_is_read_where_no_folder_is_a_class(tmp_path):
    pictures(tmp_path / "img")
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(4))
    put(tmp_path / "Data_Entry.csv", "Image Index,Finding Labels\n" + rows)
    refused("Data_Entry.csv has no column label or class: name one with --labels", tmp_path)
    found = load_records(tmp_path, labels="finding labels", yes_public=True)
    assert found.classes == ("a", "b")


def test_tables_in_parquet_beside_images_are_told_how_to_be_saved(tmp_path):
    pictures(tmp_path / "x")
    rows = pa.table({"file_name": [f"x/{i}.png" for i in range(4)], "label": ["a"] * 4})
    pq.write_table(rows, tmp_path / "metadata.parquet")
    refused("save it as metadata.csv or metadata.jsonl", tmp_path)
