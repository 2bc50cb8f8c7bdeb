"""Splits, nesting, rows of one image, labels, names and links: what no layout may get wrong."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sfumato
from sfumato.errors import SfumatoError
from sfumato.records import load_records, require_read_as_today

from .sources import SECRET, pictures, png, put, refused, table

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
